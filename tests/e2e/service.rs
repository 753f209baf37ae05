//! What a service manager hears of the node, and what the node does where there is none.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use outlast_tests::wait_for;
use rustix::process::{Pid, Signal, kill_process};

use crate::OUTLAST;

/// A service manager: it starts one node and listens to it.
struct Manager {
    dir: tempfile::TempDir,
    ear: UnixDatagram,
    node: Option<Child>,
    heard: Vec<String>,
    /// How many of the lines lie before the last one waited for, itself included.
    waited_for: usize,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let ear = UnixDatagram::bind(dir.path().join("notify")).expect("bind the notify socket");
        ear.set_nonblocking(true).expect("a socket of ours");
        Self {
            dir,
            ear,
            node: None,
            heard: Vec::new(),
            waited_for: 0,
        }
    }

    fn outlast(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.dir.path())
            .env("OUTLAST_STATE_DIR", self.dir.path().join("state"))
            .env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Starts the node as a service is started; `first` is a line of shell before it.
    fn start(&mut self, first: &str, watchdog: Duration) {
        let log = File::create(self.dir.path().join("log")).expect("make the log");
        let found = log.metadata().expect("a file of ours");
        // The watchdog waits for one process, which it names.
        let script = format!("{first}; export WATCHDOG_PID=$$; exec \"$@\"");
        let mut command = self.outlast("unshare");
        command
            .args(["--mount", "sh", "-ec", &script, "sh", OUTLAST, "up"])
            .args(["--listen", "127.0.0.1:0", "--dashboard", "127.0.0.1:0"])
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.node = Some(command.spawn().expect("start the node"));
    }

    /// Listens until, after what was waited for before, a line begins so.
    fn hear(&mut self, beginning: &str) {
        let begins = |line: &String| line.starts_with(beginning);
        self.waited_for += wait_for(beginning, Duration::from_secs(30), || {
            self.listen();
            let at = self.heard[self.waited_for..].iter().position(begins);
            at.map(|at| at + 1)
                .ok_or_else(|| format!("{:?}", self.heard))
        });
    }

    fn listen(&mut self) {
        let mut datagram = [0; 4096];
        while let Ok(length) = self.ear.recv(&mut datagram) {
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }

    fn stop(&mut self) -> Option<i32> {
        let mut node = self.node.take().expect("it was started");
        kill_process(Pid::from_child(&node), Signal::TERM).expect("signal the node");
        node.wait().expect("reap the node").code()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(node) = &mut self.node {
            drop(node.kill());
            drop(node.wait());
            eprintln!("--- log\n{}", self.log());
        }
    }
}

#[test]
fn a_service_manager_hears_ready_alive_and_stopping() {
    let mut manager = Manager::new();
    manager.start(":", Duration::from_secs(6));
    manager.hear("READY=1");
    let socket = manager.dir.path().join("state/control.sock");
    UnixStream::connect(&socket).expect("ready means that commands are answered");
    manager.hear("STATUS=waiting for `outlast init`");
    manager.hear("WATCHDOG=1");

    let founded = manager
        .outlast(OUTLAST)
        .args(["init", "--name", "a"])
        .output();
    assert!(founded.expect("run init").status.success());
    manager.hear("STATUS=a in mesh home, hears 0 of 0 peers");
    manager.hear("WATCHDOG=1");
    manager.hear("WATCHDOG=1");
    assert_eq!(manager.stop(), Some(0));
    manager.listen();
    assert!(
        manager.heard.contains(&"STOPPING=1".to_owned()),
        "{:?}",
        manager.heard
    );

    let log = manager.log();
    assert!(log.contains("<6>running mesh=home node=a"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
}

#[test]
fn a_node_whose_sampler_hangs_is_not_called_alive() {
    let mut manager = Manager::new();
    let founded = manager
        .outlast(OUTLAST)
        .args(["init", "--name", "a"])
        .output();
    assert!(founded.expect("run init").status.success());
    // A file of the kernel's that never answers: opening a pipe waits until somebody writes to it.
    let pipe = manager.dir.path().join("loadavg");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("run mkfifo").success());
    let hang = format!("mount --bind {} /proc/loadavg", pipe.display());
    manager.start(&hang, Duration::from_secs(2));
    manager.hear("READY=1");
    manager.hear("STATUS=stands still: sampler");
    let until = Instant::now() + Duration::from_secs(4);
    let before = manager.heard.len();
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
        manager.listen();
    }
    let alive = manager.heard[before..]
        .iter()
        .any(|line| line == "WATCHDOG=1");
    assert!(!alive, "{:?}", manager.heard);
    // Everything else still works, and so does the end.
    let status = manager
        .outlast(OUTLAST)
        .arg("status")
        .output()
        .expect("run status");
    assert!(status.status.success());
    assert_eq!(manager.stop(), Some(0));
}

/// Runs the program where no systemd runs and nothing outside can be changed.
fn without_systemd(dir: &Path, words: &[&str]) -> Output {
    let hide = "for place in /run /var/lib /etc/systemd; do mount -t tmpfs tmpfs $place; done && exec \"$@\"";
    Command::new("unshare")
        .args(["--mount", "sh", "-c", hide, "sh", OUTLAST])
        .args(words)
        .env("HOME", dir)
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .output()
        .expect("run unshare, of util-linux")
}

#[test]
fn where_systemd_does_not_run_it_says_what_it_would_do() {
    let home = tempfile::tempdir().expect("make a directory");
    let install = without_systemd(home.path(), &["service", "install"]);
    let (told, said) = both(&install);
    assert_eq!(install.status.code(), Some(1), "{told}{said}");
    for step in [
        "write /etc/systemd/system/outlast.service",
        "run useradd",
        "run systemctl enable",
    ] {
        assert!(told.contains(&format!("would {step}")), "{told}");
    }
    assert!(
        said.contains("systemd does not run here") && said.lines().count() == 1,
        "{said}"
    );

    let status = without_systemd(home.path(), &["service", "status"]);
    let (told, said) = both(&status);
    assert_eq!(
        (status.status.code(), said.as_str()),
        (Some(3), ""),
        "{told}"
    );
    assert!(
        told.contains("next       systemd does not run here"),
        "{told}"
    );

    // The mesh is founded all the same.
    let init = without_systemd(home.path(), &["init", "--name", "a", "--service"]);
    let (told, said) = both(&init);
    assert_eq!(init.status.code(), Some(1), "{told}{said}");
    assert!(told.contains("founded mesh home"), "{told}");
    assert!(
        said.contains("init is done, but systemd does not run here"),
        "{said}"
    );
    let keys = std::fs::read_dir(home.path().join(".config/outlast/admin"));
    assert_eq!(keys.expect("the admin key is there").count(), 1);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_done() {
    let home = tempfile::tempdir().expect("make a directory");
    let elsewhere = without_systemd(home.path(), &["--state-dir", "/tmp/x", "init", "--service"]);
    let listening = without_systemd(home.path(), &["init", "--service", "--listen", "[::]:7000"]);
    // Whoever names another directory must not lose the service's.
    let purge = ["--state-dir", "/tmp/x", "service", "uninstall", "--purge"];
    let purge = without_systemd(home.path(), &purge);
    for (refused, words) in [
        (elsewhere, "--state-dir"),
        (purge, "leave out --state-dir"),
        (listening, "/etc/outlast/outlast.toml"),
    ] {
        let (_, said) = both(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
    assert!(!home.path().join(".config").exists());
}

fn both(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
