//! A home of its own for each test, so that nothing of this machine is read or written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A home of its own, so that nothing of this machine is read or written.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("make a home"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state(&self, node: &str) -> PathBuf {
        self.path().join(node)
    }

    /// A command of `node`, its environment empty but for this home.
    pub(crate) fn command(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .env("OUTLAST_STATE_DIR", self.state(node));
        command
    }

    /// Runs a command of `node`, with `input` on standard input.
    pub(crate) fn run(&self, node: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(node, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A command that reads nothing has closed it already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("wait for the program")
    }

    pub(crate) fn ok(&self, node: &str, arguments: &[&str], input: &str) -> String {
        let output = self.run(node, arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", err(&output));
        out(&output)
    }

    pub(crate) fn fails(&self, node: &str, arguments: &[&str], input: &str) -> (i32, String) {
        let output = self.run(node, arguments, input);
        assert_eq!(
            out(&output),
            "",
            "{arguments:?} printed something and failed"
        );
        (
            output.status.code().expect("it was not killed"),
            err(&output),
        )
    }
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// The admin keys kept in this home.
pub(crate) fn admin_keys(home: &Home) -> Vec<PathBuf> {
    let dir = home.path().join(".config/outlast/admin");
    let entries =
        std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    entries.unwrap_or_default()
}
