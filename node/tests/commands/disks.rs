//! File systems that are read-only or full, made in a mount namespace of the command's own; these need root.
//!
//! What is said stands in `disks.txt`; `make bless` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use expect_test::expect_file;

use crate::home::{Home, err, out};

/// Runs a command after `setup` of the shell, in which `$D` is the state directory of `a`.
fn within(home: &Home, setup: &str, arguments: &[&str]) -> Output {
    let program = home.command("a", &[]).get_program().to_owned();
    let mut unshare = std::process::Command::new("unshare");
    unshare
        .args(["--mount", "--propagation", "private", "bash", "-euc"])
        .arg(format!("{setup}; exec \"$0\" \"$@\""))
        .arg(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", home.path())
        .env("D", home.state("a"))
        .env("OUTLAST_STATE_DIR", home.state("a"));
    unshare.output().expect("run unshare, of util-linux")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The state directory as it is, but read-only.
const READ_ONLY: &str = "mount --bind $D $D; mount -o remount,bind,ro $D";

/// An empty file system that takes nothing more.
const FULL: &str = "mkdir -p $D; mount -t tmpfs -o size=16k,nr_inodes=20 none $D; mkdir $D/state; \
                    head -c 16384 /dev/zero > $D/filler || true";

/// The state directory's content on a file system that takes nothing more.
const FILLED: &str = "cp -a $D $D.copy; mount -t tmpfs -o size=160k none $D; cp -a $D.copy/. $D/; \
                      rm -rf $D.copy; cat /dev/zero > $D/store-filler 2>/dev/null || true";

fn tell(text: &mut String, home: &Home, what: &str, setup: &str, line: &[&str]) -> Output {
    let output = within(home, setup, line);
    let said = err(&output).replace(home.path().to_str().expect("a plain path"), "~");
    assert_eq!(said.lines().count(), 1, "{what} {line:?}: {said}");
    assert!(said.starts_with("outlast: "), "{what} {line:?}: {said}");
    let code = output.status.code().expect("it was not killed");
    let shown = line
        .join(" ")
        .replace(home.path().to_str().expect("a plain path"), "~");
    let _ = writeln!(text, "# {what}\n$ outlast {shown}\n{said}exit {code}\n");
    output
}

/// Every file below a directory with what is in it.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir)
            .expect("read the directory")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                left.push(path.clone());
            }
            let content = std::fs::read(&path).unwrap_or_default();
            found.push((path.display().to_string(), content));
        }
    }
    found.sort();
    found
}

#[test]
fn a_disk_that_takes_nothing_is_one_line_with_its_path_and_what_to_do() {
    if !is_root() {
        return;
    }
    let mut text = String::new();
    let home = Home::new();
    std::fs::create_dir(home.state("a")).expect("make a directory");
    for line in [&["init"][..], &["up"]] {
        tell(
            &mut text,
            &home,
            "read-only, nothing there",
            READ_ONLY,
            line,
        );
        let below = home.state("a").join("state");
        let full = [
            "--state-dir",
            below.to_str().expect("a plain path"),
            line[0],
        ];
        tell(&mut text, &home, "full, nothing there", FULL, &full);
    }
    home.ok("a", &["init", "--name", "attic"], "");
    let before = tree(&home.state("a"));
    for line in [
        &["invite", "--listen", "192.0.2.1:7000"][..],
        &["members"],
        &["query", "--series", "*"],
        &["up"],
    ] {
        tell(&mut text, &home, "read-only, a member", READ_ONLY, line);
    }
    assert_eq!(
        tree(&home.state("a")),
        before,
        "a read-only disk has changed"
    );
    expect_file!["disks.txt"].assert_eq(&text);
    // Reading needs no room.
    let output = within(&home, FILLED, &["members"]);
    assert!(out(&output).contains("attic"), "{}", err(&output));
}

#[test]
fn what_a_full_disk_left_half_done_is_done_once_there_is_room() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    // The first try meets a disk with no room at all, the second one where the directory fits.
    for room in ["0", "4096", "8192", "12288"] {
        let retry = format!(
            "mkdir -p $D; mount -t tmpfs -o size=32k none $D; head -c {} /dev/zero > $D/filler; \
             OUTLAST_STATE_DIR=$D/state HOME=$D/state-home; export OUTLAST_STATE_DIR HOME; \
             ! \"$0\" init 2>/dev/null || true; rm $D/filler; mount -o remount,size=1m $D",
            32_768 - room.parse::<u32>().expect("a number")
        );
        let state = home.state("a").join("state");
        let output = within(
            &home,
            &retry,
            &["--state-dir", state.to_str().expect("a plain path"), "init"],
        );
        let said = err(&output);
        let founded = output.status.success() || said.contains("belongs to mesh home already");
        assert!(founded, "{room} bytes of room: {said}");
    }
}

#[test]
fn a_directory_of_a_newer_release_is_left_as_it_is() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    std::fs::write(home.state("a").join("FORMAT"), "outlast 2\n").expect("write FORMAT");
    let before = tree(&home.state("a"));
    for line in [
        &["init"][..],
        &["up"],
        &["invite", "--listen", "192.0.2.1:7000"],
        &["members"],
        &["query", "--series", "*"],
        &["status"],
        &["doctor"],
    ] {
        let output = home.run("a", line, "");
        assert!(matches!(output.status.code(), Some(1 | 3)), "{line:?}");
        let said = err(&output) + &out(&output);
        let told = said.contains("has format \"outlast 2\", this release knows \"outlast 1\"");
        assert!(told || line == ["status"], "{line:?}: {said}");
        assert_eq!(tree(&home.state("a")), before, "{line:?} changed something");
    }
}
