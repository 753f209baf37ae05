//! A machine with systemd, users and packages of its own, made from the files of this one.
//!
//! `Machine::boot` gives it fresh namespaces and an overlay over `/` that forgets everything; `run` does something
//! in it, as root or as a user.
//! Invariant: the real machine's files, users, packages, processes and kernel settings are not touched; dropping
//! the value ends every process in it, and its mounts go with them.
//! Absent: a reboot. The first process is the machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::wait_for;

/// Who may take how long to boot: two seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(60);

/// A booted machine.
#[derive(Debug)]
pub struct Machine {
    around: Child,
    /// The first process, as the real machine counts.
    pid: u32,
    /// Where its processes are counted, so that two machines don't count each other's.
    cgroups: Vec<PathBuf>,
    _dir: tempfile::TempDir,
}

impl Machine {
    /// Boots. `None` without root.
    ///
    /// # Panics
    /// When systemd doesn't come up; needs the packages `systemd` and `util-linux`.
    pub fn boot() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().expect("make a directory for the machine");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/machine.sh");
        let namespaces = [
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--cgroup",
            "--uts",
            "--ipc",
            "--net",
            "--propagation",
            "private",
        ];
        let cgroups = make_cgroups();
        // Into the groups first: the namespace shows as its root what the process is in when it is made.
        let enter = "for group in $0; do echo $$ > $group/cgroup.procs; done; exec unshare \"$@\"";
        let groups: Vec<_> = cgroups
            .iter()
            .map(|group| group.to_string_lossy())
            .collect();
        let around = Command::new("sh")
            .args(["-c", enter])
            .arg(groups.join(" "))
            .args(namespaces)
            .arg(script)
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("run unshare, of util-linux");
        let mut machine = Self {
            pid: 0,
            around,
            cgroups,
            _dir: dir,
        };
        machine.wait_until_up();
        Some(machine)
    }

    fn wait_until_up(&mut self) {
        let around = self.around.id();
        self.pid = wait_for("the machine's first process", BOOT, || {
            let children = format!("/proc/{around}/task/{around}/children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            let first = children
                .split_whitespace()
                .next()
                .and_then(|pid| pid.parse().ok());
            let first: u32 = first.ok_or("not forked yet")?;
            let name = std::fs::read_to_string(format!("/proc/{first}/comm")).unwrap_or_default();
            if name.trim() == "systemd" {
                Ok(first)
            } else {
                Err(name)
            }
        });
        wait_for("the machine to be up", BOOT, || {
            let said = self.output(&["systemctl", "is-system-running"]);
            let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            // Degraded: some unit of this machine's image can't run in a container, which is not our concern.
            if said == "running" || said == "degraded" {
                Ok(())
            } else {
                Err(said)
            }
        });
    }

    /// A file of the machine, seen from here.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(inside.trim_start_matches('/'))
    }

    /// Runs a command as root and returns what it printed, both outputs one after the other.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.output(words);
        let said = both(&output);
        assert!(
            output.status.success(),
            "{words:?} ended with {}: {said}",
            output.status
        );
        said
    }

    /// Runs a command as root.
    pub fn output(&self, words: &[&str]) -> Output {
        self.command(&[], words)
            .output()
            .expect("run nsenter, of util-linux")
    }

    /// Runs a command as root with text on its standard input.
    pub fn output_with_input(&self, words: &[&str], input: &str) -> Output {
        let mut child = self
            .command(&[], words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run nsenter, of util-linux");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A command that doesn't read its input closes it first; that is its right.
        drop(std::io::Write::write_all(&mut stdin, input.as_bytes()));
        drop(stdin);
        child.wait_with_output().expect("wait for a command")
    }

    /// Runs a command as a user with all groups of theirs; the exit code and what it said.
    pub fn run_as(&self, user: &str, words: &[&str]) -> (Option<i32>, String) {
        let flags = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"];
        let output = self
            .command(&flags, words)
            .output()
            .expect("run nsenter, of util-linux");
        (output.status.code(), both(&output))
    }

    fn command(&self, before: &[&str], words: &[&str]) -> Command {
        let home = match before {
            [_, _, user, ..] => format!("HOME=/home/{user}"),
            _ => "HOME=/root".to_owned(),
        };
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid.to_string(), "--all"])
            .args(before)
            .args([
                "env",
                "-i",
                &home,
                "NO_COLOR=1",
                "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive",
            ])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// What the journal has of a unit.
    pub fn journal(&self, unit: &str) -> String {
        both(&self.output(&[
            "journalctl",
            "--no-pager",
            "--output",
            "short",
            "--unit",
            unit,
        ]))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.pid != 0 {
            eprintln!("--- journal of outlast\n{}", self.journal("outlast"));
        }
        // The first process goes with `unshare`, and all others with the first.
        drop(self.around.kill());
        drop(self.around.wait());
        self.cgroups.iter().for_each(|group| remove_cgroup(group));
    }
}

/// A group of its own in each hierarchy that systemd uses: the old kind's named one and the new one, where they are.
fn make_cgroups() -> Vec<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("outlast-test-{}-{number}", std::process::id());
    let tops = [
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
    ];
    let tops = tops.map(Path::new).into_iter();
    tops.filter(|top| top.join("cgroup.procs").exists())
        .map(|top| top.join(&name))
        .filter(|group| std::fs::create_dir(group).is_ok())
        .collect()
}

/// Directories go one by one, the deepest first, and only once their processes are gone.
fn remove_cgroup(group: &Path) {
    let inside = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in inside.filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    for _ in 0..50 {
        match std::fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

fn both(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
