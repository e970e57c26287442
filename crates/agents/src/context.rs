//! Context injection: what was recalled, as a part of a prompt.
//!
//! The client's [`PromptAdapter`] quotes each memory line by line below a heading with its provenance and
//! age, best first, within a budget of tokens. That keeps a text inside its quotation for whoever reads
//! lines. A model reads tokens, and some texts are tokens of their own: `<|im_end|>` ends a message for many
//! models wherever it stands. So what looks like one is taken apart here before it is quoted.
//!
//! Tokens are counted without a tokenizer, since every model has another one, and on the high side: see
//! [`Budget::Tokens`]. The preamble, the headings and the quotation marks count as well.

use memorygate_client::{
    LearningContext, Recalled, TimeMs,
    adapter::{Adapted, Budget, MemoryAdapter, PromptAdapter},
};

/// Tokens that memories may take of a prompt, if it is not said.
pub const TOKENS_DEFAULT: usize = 4_000;
/// And at most: what the largest models read.
pub const TOKENS_MAX: usize = 1_000_000;

/// Characters of the longest `[NAME]` that is taken for a token.
const BRACKETED_CHARS_MAX: usize = 32;

/// Renders memories for a prompt, see the module.
#[derive(Clone, Debug)]
pub struct Injection {
    tokens: usize,
    now: Option<TimeMs>,
}

impl Injection {
    /// With room for so many tokens, at most [`TOKENS_MAX`]; 0 leaves all memories out.
    pub fn new(tokens: usize) -> Self {
        Self {
            tokens: tokens.min(TOKENS_MAX),
            now: None,
        }
    }

    /// Tells ages as of this time instead of by this machine's clock.
    #[must_use]
    pub fn at(mut self, now: TimeMs) -> Self {
        self.now = Some(now);
        self
    }
}

impl Default for Injection {
    fn default() -> Self {
        Self::new(TOKENS_DEFAULT)
    }
}

impl MemoryAdapter for Injection {
    fn adapt_knowledge(&self, context: &LearningContext, memories: &[Recalled]) -> Adapted {
        let mut adapter = PromptAdapter::new(Budget::Tokens(self.tokens));
        if let Some(now) = self.now {
            adapter = adapter.at(now);
        }
        // Before it is measured, so that the budget holds for what is sent.
        let memories: Vec<Recalled> = memories.iter().cloned().map(made_inert).collect();
        adapter.adapt_knowledge(context, &memories)
    }
}

fn made_inert(mut recalled: Recalled) -> Recalled {
    let memory = &mut recalled.memory;
    memory.content = inert(&memory.content);
    memory.domain = inert(&memory.domain);
    memory.agent = memory.agent.as_deref().map(inert);
    recalled
}

/// The text without anything that a model may take for the end of a message or the beginning of another:
/// `<|…|>`, `<s>`, `<start_of_turn>`, `[INST]`, `[/INST]` and the like get a blank behind their first
/// bracket. Read as a text it still says the same.
pub fn inert(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        clean.push(c);
        let rest = &text[at + c.len_utf8()..];
        let opens = match c {
            // In a name an end of line is written out, and begins with a bracket itself.
            '<' => rest.starts_with(|next: char| !" =-".contains(next)),
            '[' => is_bracketed_token(rest),
            _ => false,
        };
        if opens {
            clean.push(' ');
        }
    }
    clean
}

/// `INST]…`, `/INST]…`, `TOOL_CALLS]…`, `gMASK]…`: words in brackets that are not all small letters.
fn is_bracketed_token(rest: &str) -> bool {
    let name = rest.strip_prefix('/').unwrap_or(rest);
    let mut has_capital = false;
    for (count, c) in name.chars().enumerate() {
        match c {
            ']' => return has_capital,
            _ if count >= BRACKETED_CHARS_MAX => return false,
            'A'..='Z' => has_capital = true,
            'a'..='z' | '0'..='9' | '_' => {}
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests;
