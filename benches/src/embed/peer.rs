//! The other side: onnxruntime in a Python process, one line of JSON a turn.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Goes with this program, so that it is found wherever that is run.
const SCRIPT: &str = include_str!("../../peers/onnxruntime_embed.py");

const PACKAGES: &str = "numpy onnx onnxruntime tokenizers";

/// The Python of a checkout's own environment.
const PYTHON_OF_CHECKOUT: &str = ".venv/bin/python3";

/// A running peer with its model loaded.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    /// `None` once the peer was told that there is no more.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// What it says of one batch.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answer {
    /// `[CLS]` and `[SEP]` of each text included.
    pub(super) pieces: usize,
    /// From the texts to the vectors, as the peer measured it.
    pub(super) ms: f64,
    pub(super) vectors: Vec<Vec<f32>>,
}

impl Peer {
    pub(super) fn start(
        python: Option<&str>,
        model_dir: &Path,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let python = match python {
            Some(python) => python,
            None if Path::new(PYTHON_OF_CHECKOUT).exists() => PYTHON_OF_CHECKOUT,
            None => "python3",
        };
        check_packages(python)?;
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, "--interactive", "--vectors", "--model"])
            .arg(model_dir)
            .args(["--threads", &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {python}"))?;
        let to = child.stdin.take().expect("it was asked for");
        let from = BufReader::new(child.stdout.take().expect("it was asked for"));
        Ok(Self {
            child,
            to: Some(to),
            from,
        })
    }

    /// Vectors of these texts, made as one batch.
    pub(super) fn embed(&mut self, texts: &[String]) -> anyhow::Result<Answer> {
        let to = self
            .to
            .as_mut()
            .expect("it is taken only when the peer is dropped");
        let mut line = serde_json::to_string(texts).context("write texts")?;
        line.push('\n');
        to.write_all(line.as_bytes())
            .and_then(|()| to.flush())
            .context("talk to the peer")?;
        line.clear();
        self.from
            .read_line(&mut line)
            .context("hear from the peer")?;
        if line.is_empty() {
            bail!("the peer ended; what it said stands above");
        }
        let answer: Answer =
            serde_json::from_str(&line).with_context(|| format!("the peer said {line:?}"))?;
        if answer.vectors.len() != texts.len() {
            bail!(
                "the peer made {} vectors, expected {}",
                answer.vectors.len(),
                texts.len()
            );
        }
        Ok(answer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is the end of the peer.
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

fn check_packages(python: &str) -> anyhow::Result<()> {
    let import = format!("import {}", PACKAGES.replace(' ', ", "));
    let output = Command::new(python).args(["-c", &import]).output();
    let output = output.with_context(|| format!("run {python}; name another with --python"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!(
        "{python} cannot run the peer ({}).\nMake an environment for it:\n  python3 -m venv .venv\n  \
         .venv/bin/pip install {PACKAGES}\nor name a Python that has these with --python",
        said.lines().last().unwrap_or("it does not say why")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_packages_the_error_says_how_to_get_them() {
        // `false` is a Python that has nothing.
        let error = check_packages("false").unwrap_err().to_string();
        assert!(
            error.contains(".venv/bin/pip install numpy onnx onnxruntime"),
            "{error}"
        );
        let error = format!("{:#}", check_packages("/nowhere/python").unwrap_err());
        assert!(
            error.starts_with("run /nowhere/python; name another with --python"),
            "{error}"
        );
    }
}
