//! Text to word pieces: the model's own tokenizer, without its padding and truncation.

use memorygate_core::embedding::Error;
use tokenizers::Tokenizer;

/// The pieces before and after every text that the model reads.
pub(super) const CLS: u16 = 101;
pub(super) const SEP: u16 = 102;

pub(super) struct Tokens(Tokenizer);

impl Tokens {
    /// From the contents of the model's `tokenizer.json`.
    pub(super) fn new(file: &[u8]) -> Result<Self, tokenizers::Error> {
        let mut tokenizer = Tokenizer::from_bytes(file)?;
        // The file pads to 128 and truncates there: padding would be averaged into the vectors.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        Ok(Self(tokenizer))
    }

    /// All pieces of a text, without [`CLS`] and [`SEP`].
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<u16>, Error> {
        let failed = |reason: String| Error::Model(format!("cannot tokenize: {reason}"));
        let encoding = self
            .0
            .encode_fast(text, false)
            .map_err(|e| failed(e.to_string()))?;
        let pieces = encoding.get_ids().iter().map(|id| u16::try_from(*id));
        pieces
            .collect::<Result<_, _>>()
            .map_err(|_| failed("a piece's id exceeds 16 bits".to_owned()))
    }

    /// The last `count` pieces of a text, or fewer if it has fewer. Reads little more of a long text
    /// than it needs: pieces never reach over white space.
    pub(super) fn last_pieces(&self, text: &str, count: usize) -> Result<Vec<u16>, Error> {
        /// Prose has four to five bytes a piece.
        const BYTES_A_PIECE: usize = 16;
        let tail = text
            .len()
            .checked_sub(count * BYTES_A_PIECE)
            .and_then(|at| {
                let text = &text[text.floor_char_boundary(at)..];
                text.find(' ').map(|space| &text[space..])
            });
        if let Some(tail) = tail {
            let pieces = self.pieces(tail)?;
            if pieces.len() >= count {
                return Ok(pieces[pieces.len() - count..].to_vec());
            }
        }
        let pieces = self.pieces(text)?;
        Ok(pieces[pieces.len().saturating_sub(count)..].to_vec())
    }
}
