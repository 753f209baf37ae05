//! A node whose disk fills: it goes on, says so, and recovers when there is room again. Needs root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use outlast_tests::{Killed, wait_for};
use serde_json::Value;

use crate::OUTLAST;

const SOON: Duration = Duration::from_secs(60);

/// A node on a small ext4 of its own, mounted where only it sees it.
struct Confined {
    // The first to go: the mount goes with the last process that sees it.
    child: Killed,
    home: tempfile::TempDir,
}

impl Confined {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("make a home");
        let setup = "truncate -s 64M \"$HOME/disk\"; mkfs.ext4 -q -F \"$HOME/disk\"; mkdir \"$HOME/mnt\"; \
                     mount -o loop \"$HOME/disk\" \"$HOME/mnt\"; \
                     exec \"$0\" --state-dir \"$HOME/mnt/state\" up --listen 127.0.0.1:0 --dashboard 127.0.0.1:0";
        let log = File::create(home.path().join("log")).expect("make the log");
        let child = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "bash",
                "-euc",
                setup,
                OUTLAST,
            ])
            .env("HOME", home.path())
            .env("NO_COLOR", "1")
            .env_remove("OUTLAST_STATE_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("run unshare, of util-linux");
        let node = Self {
            child: Killed(child),
            home,
        };
        wait_for("the node on its small disk", SOON, || {
            let output = node.output(&["status"]);
            output
                .status
                .success()
                .then_some(())
                .ok_or_else(|| node.log())
        });
        node
    }

    /// The small disk, as the node sees it.
    fn disk(&self) -> PathBuf {
        let mount = self.home.path().join("mnt");
        let mount = mount.strip_prefix("/").expect("an absolute path");
        Path::new("/proc")
            .join(self.child.0.id().to_string())
            .join("root")
            .join(mount)
    }

    fn output(&self, arguments: &[&str]) -> Output {
        Command::new(OUTLAST)
            .arg("--state-dir")
            .arg(self.disk().join("state"))
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .output()
            .expect("start a command")
    }

    fn status(&self) -> Value {
        let output = self.output(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.log()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

/// Writes until the disk takes nothing more.
fn fill(path: &Path) {
    let mut filler = File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("make the filler");
    for size in [1 << 20, 4096, 1] {
        let chunk = vec![7; size];
        while filler.write_all(&chunk).is_ok() {}
    }
}

#[test]
fn a_node_whose_disk_fills_goes_on_says_so_and_recovers() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut node = Confined::start();
    assert!(
        node.output(&["init", "--name", "a"]).status.success(),
        "{}",
        node.log()
    );
    let synced = |status: &Value| status["store"]["synced_seq"].as_u64().unwrap_or(0);
    wait_for("rows on disk", SOON, || {
        let status = node.status();
        (synced(&status) > 2)
            .then_some(())
            .ok_or_else(|| status.to_string())
    });

    let filler = node.disk().join("filler");
    wait_for("a full disk to be told", SOON, || {
        // What the node frees on the way is taken as well.
        fill(&filler);
        let status = node.status();
        let told = |notice: &Value| {
            notice
                .as_str()
                .is_some_and(|n| n.contains("in memory only"))
        };
        let notices = status["notices"].as_array().cloned().unwrap_or_default();
        notices
            .iter()
            .any(told)
            .then_some(())
            .ok_or_else(|| status["store"].to_string())
    });
    is_told(&node, &filler);
    let full_at = synced(&node.status());

    std::fs::remove_file(&filler).expect("make room");
    wait_for("the store to write again", SOON, || {
        let status = node.status();
        let well = status["store"]["health"] == "" && synced(&status) > full_at;
        well.then_some(())
            .ok_or_else(|| status["store"].to_string())
    });
    assert!(node.output(&["invite"]).status.success(), "{}", node.log());
    assert!(
        node.child.0.try_wait().expect("look").is_none(),
        "it ended: {}",
        node.log()
    );
    let log = node.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

/// What the commands say while the disk takes nothing.
fn is_told(node: &Confined, filler: &Path) {
    let shown = node.output(&["status"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("! ") && line.contains("in memory only")),
        "{shown}"
    );
    // The last block of the statements' file may have room for a few.
    let said = (0..40).find_map(|_| {
        fill(filler);
        let invite = node.output(&["invite"]);
        let said = String::from_utf8_lossy(&invite.stderr).into_owned();
        (!invite.status.success()).then_some(said)
    });
    let said = said.expect("an invite that found no room");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("No space left on device") && said.contains("make room"),
        "{said}"
    );
    let doctor = node.output(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{text}");
    for check in ["fail  disk", "fail  store"] {
        assert!(
            text.lines().any(|line| line.starts_with(check)),
            "{check}: {text}"
        );
    }
}
