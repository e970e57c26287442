//! Runs the built `mgctl` against a server in this process.

use std::{
    io::Write as _,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use memorygate_fake::Fake;

/// A server, and `mgctl` pointed at it.
pub(super) struct Mgctl {
    pub(super) fake: Fake,
    pub(super) address: String,
}

/// What a run left.
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Mgctl {
    pub(super) async fn start() -> Self {
        let (fake, address) = Fake::start().await;
        Self { fake, address }
    }

    /// Runs it without input.
    pub(super) async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "").await
    }

    pub(super) async fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut command = command(args);
        command.env("MEMORYGATE_ENDPOINT", &self.address);
        finish(command, input.as_bytes().to_vec()).await
    }

    /// Starts it and leaves it running.
    pub(super) fn spawn(&self, args: &[&str]) -> Child {
        let mut command = command(args);
        command.env("MEMORYGATE_ENDPOINT", &self.address);
        command.spawn().unwrap()
    }

    /// Runs it, expects success and returns what it printed.
    pub(super) async fn ok(&self, args: &[&str]) -> String {
        self.run(args).await.ok()
    }

    /// Runs it with JSON output and reads the document.
    pub(super) async fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        serde_json::from_str(&self.ok(&args).await).unwrap()
    }
}

impl Ran {
    pub(super) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// Exit code and messages of a run that failed.
    pub(super) fn failed(self) -> (i32, String) {
        assert_ne!(self.code, 0, "{}", self.out);
        (self.code, self.err)
    }
}

/// The command without a server, in an environment of its own.
pub(super) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mgctl"));
    command
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Where a coverage build writes its counts.
    if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", profile);
    }
    command
}

pub(super) async fn finish(mut command: Command, input: Vec<u8>) -> Ran {
    let run = move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may not read what it does not need.
        let _ = stdin.write_all(&input);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}
