//! Who decides for an agent: past cases alone, or a language model that is shown them.
//!
//! A key comes from a file or the environment alone, since a command line is seen by every process.

use std::{fs::File, io::Read as _, path::Path, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use memorygate_agents::{
    CaseBased, Chat, Executor,
    chat::{Bounds, KEY_BYTES_MAX, Key, Settings, SettingsError},
    context::{TOKENS_DEFAULT, TOKENS_MAX},
};

use crate::{args, failure::Usage};

/// Holds the key of the model, if no file does.
const KEY_VARIABLE: &str = "MEMORYGATE_MODEL_KEY";

/// A model may take at most so long.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// How sure the best action has to be, if it is not said. What a model says of itself is higher than what
/// past cases say.
const SURE_BY_CASES: f32 = 0.25;
const SURE_BY_MODEL: f32 = 0.5;

/// Who decides, and how sure he has to be.
#[derive(clap::Args)]
#[command(next_help_heading = "Decision")]
pub(super) struct ExecutorArgs {
    /// Who decides [default: case-based]
    #[arg(long, value_name = "WHO")]
    executor: Option<Who>,
    /// Say that it is not known where nothing is likelier than this to be right, 0 to 1 [default: 0.25, or
    /// 0.5 for a model and for findings of a review]
    #[arg(long, value_name = "NUMBER", value_parser = confidence)]
    pub(super) sure: Option<f32>,
    /// The model's name, for --executor chat
    #[arg(long, env = "MEMORYGATE_MODEL_NAME", value_name = "NAME")]
    model: Option<String>,
    /// Where it is: the base of an interface like OpenAI's, such as http://127.0.0.1:11434/v1
    #[arg(long, env = "MEMORYGATE_MODEL_ENDPOINT", value_name = "URL")]
    model_endpoint: Option<String>,
    /// The file with its key; MEMORYGATE_MODEL_KEY may hold one instead. It is sent over https, or within
    /// this machine
    #[arg(long, value_name = "FILE", requires = "executor")]
    model_key_file: Option<PathBuf>,
    /// How long it may take for a decision, all attempts together, at most 1h [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = timeout, requires = "executor")]
    model_timeout: Option<Duration>,
    /// Room for memories in its prompt, in tokens, counted on the high side [default: 4000]
    #[arg(long, value_name = "N", value_parser = tokens, requires = "executor")]
    context_tokens: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Who {
    /// What worked and what failed in similar cases; no model is needed
    CaseBased,
    /// A language model that is shown them, over an interface like OpenAI's
    Chat,
}

impl ExecutorArgs {
    /// Asks nobody yet.
    pub(super) fn executor(&self) -> anyhow::Result<Arc<dyn Executor>> {
        match self.executor.unwrap_or(Who::CaseBased) {
            Who::CaseBased => self.case_based(),
            Who::Chat => Ok(Arc::new(self.chat()?)),
        }
    }

    fn case_based(&self) -> anyhow::Result<Arc<dyn Executor>> {
        // Name and endpoint may come from the environment for other commands.
        let for_model = self.model_key_file.is_some()
            || self.model_timeout.is_some()
            || self.context_tokens.is_some();
        if for_model {
            let reason =
                "--model-key-file, --model-timeout and --context-tokens are for --executor chat";
            bail!(Usage(reason.to_owned()));
        }
        let sure = self.sure.unwrap_or(SURE_BY_CASES);
        Ok(Arc::new(CaseBased::default().abstaining_below(sure)))
    }

    fn chat(&self) -> anyhow::Result<Chat> {
        let missing = |what: &str| {
            Usage(format!(
                "--executor chat needs {what}, for example --model llama3.1 --model-endpoint \
                 http://127.0.0.1:11434/v1"
            ))
        };
        let model = self.model.as_deref();
        let model = model.ok_or_else(|| missing("a model: --model or MEMORYGATE_MODEL_NAME"))?;
        let endpoint = self
            .model_endpoint
            .as_deref()
            .ok_or_else(|| missing("an endpoint: --model-endpoint or MEMORYGATE_MODEL_ENDPOINT"))?;
        let bounds = Bounds::default();
        let whole = self.model_timeout.unwrap_or(bounds.whole);
        let settings = Settings {
            key: self.key()?,
            context_tokens: self.context_tokens.unwrap_or(TOKENS_DEFAULT),
            abstain_below: self.sure.unwrap_or(SURE_BY_MODEL),
            bounds: Bounds {
                whole,
                // Who gives a slow model more time means its first word too.
                first_token: bounds.first_token.max(whole / 2).min(whole),
                ..bounds
            },
            ..Settings::new(endpoint, model)
        };
        Chat::new(&settings).map_err(usage)
    }

    fn key(&self) -> anyhow::Result<Option<Key>> {
        let (text, place) = match &self.model_key_file {
            Some(path) => (read(path)?, path.display().to_string()),
            None => match std::env::var(KEY_VARIABLE) {
                Ok(text) if !text.trim().is_empty() => (text, KEY_VARIABLE.to_owned()),
                Ok(_) | Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => {
                    bail!(Usage(format!("{KEY_VARIABLE} is not UTF-8")));
                }
            },
        };
        let key = Key::parse(&text).map_err(|error| Usage(format!("{place}: {error}")))?;
        Ok(Some(key))
    }
}

/// What is longer than a key is not read to its end.
fn read(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("open {shown}"))?;
    let mut text = String::new();
    file.take(2 * KEY_BYTES_MAX as u64)
        .read_to_string(&mut text)
        .with_context(|| format!("read {shown}"))?;
    Ok(text)
}

fn usage(error: SettingsError) -> anyhow::Error {
    match error {
        SettingsError::Encryption { .. } => anyhow::Error::new(error),
        SettingsError::Endpoint { .. }
        | SettingsError::KeyInTheClear { .. }
        | SettingsError::NoModel
        | SettingsError::Key => Usage(error.to_string()).into(),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = args::duration(text)?;
    if time <= TIMEOUT_MAX {
        Ok(time)
    } else {
        Err("expected at most 1h".to_owned())
    }
}

fn tokens(text: &str) -> Result<usize, String> {
    let tokens = text.parse().ok().filter(|tokens| *tokens <= TOKENS_MAX);
    tokens.ok_or_else(|| format!("expected a number from 0 to {TOKENS_MAX}"))
}

fn confidence(text: &str) -> Result<f32, String> {
    text.parse::<f32>()
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
