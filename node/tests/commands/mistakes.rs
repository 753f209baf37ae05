//! What a person gets wrong, and the one line that says what to do, word by word, in `mistakes.txt`.
//!
//! `make bless` writes the file anew; then read what changed.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use expect_test::expect_file;

use crate::home::{Home, err, out};

/// A line with what it says, as on a terminal; the home directory is written `~`.
struct Transcript {
    home: Home,
    text: String,
}

impl Transcript {
    fn run(&mut self, line: &str, input: &str) {
        let arguments = split(line);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = self.home.run("a", &words, input);
        let (code, said) = (output.status.code(), err(&output));
        assert_eq!(out(&output), "", "`{line}` failed and printed something");
        assert_eq!(said.lines().count(), 1, "`{line}`: {said}");
        assert!(said.starts_with("outlast: "), "`{line}`: {said}");
        let said = said.replace(self.home.path().to_str().expect("a plain path"), "~");
        let code = code.expect("it was not killed");
        assert!((1..=3).contains(&code), "`{line}`: exit {code}");
        let _ = writeln!(self.text, "$ outlast {line}\n{}exit {code}\n", said);
    }
}

/// Words apart by spaces; quotes hold some together.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            1 => words.push(part.to_owned()),
            _ => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    words
}

#[test]
fn every_mistake_is_one_line_that_says_what_to_do() {
    let mut typed = Transcript {
        home: Home::new(),
        text: String::new(),
    };
    for line in USAGE {
        typed.run(line, "");
    }
    for (line, input) in [
        ("join", ""),
        ("join", "hello"),
        (
            "join",
            "ol1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        ("pubkey", ""),
        ("pubkey", "hello"),
    ] {
        typed.run(line, input);
    }
    for line in WITHOUT_MESH {
        typed.run(line, "");
    }
    assert!(
        !typed.home.state("a").exists(),
        "a mistake left something behind"
    );
    configurations(&mut typed);
    directories(&mut typed);
    member(&mut typed);
    expect_file!["mistakes.txt"].assert_eq(&typed.text);
}

/// Wrong before anything is looked at.
const USAGE: &[&str] = &[
    "statu",
    "stor-check",
    "isolat on",
    "up --frob",
    "up extra",
    "status --jsn",
    "--colour never status",
    "--color sometimes status",
    "--log-format xml up",
    "init --name 'Not Good'",
    "init --invite 0",
    "init --invite 1001",
    "init --name ''",
    "invite --expires 1",
    "invite --expires 400d",
    "invite --uses 70000",
    "invite --json --qr",
    "invite --replaces attic --uses 2",
    "invite --force",
    "invite --list --uses 2",
    "invite --revoke abc --json",
    "evict",
    "evict attic --since tomorrow",
    "evict attic --since 2999-01-01T00:00:00Z",
    "retire attic --since 2h",
    "rename attic",
    "rename attic 'Not Good'",
    "approve attic --json",
    "leave attic",
    "admin",
    "admin ad",
    "admin add ann",
    "admin add ann hello",
    "admin add 'Not Good' --out key",
    "admin add ann --out key --rank 0",
    "admin revoke",
    "recover --setup --words-file words",
    "recover --since 2h",
    "recover --recovery-out words",
    "set",
    "set attic",
    "set meterd=on",
    "set colour=blue",
    "set metered=yes",
    "set attic retention=5GB",
    "set site=a site=b",
    "set site=a attic",
    "join --token-file /nowhere/token",
    "join --token-file a TOKEN",
    "up --listen 51800",
    "up --listen localhost:51800",
    "up --dashboard 127.0.0.1:99999",
    "up --endpoint home.example.net",
    "ping",
    "ping attic -c 0",
    "ping attic -c -1",
    "ping attic -i 1ms",
    "query",
    "query --series '*' --from yesterday",
    "query --series '*' --from now --to -1h",
    "query --series '*' --from 99999999999999999999",
    "query --series '*' --step 5s",
    "query --series '*' --json --csv",
    "query --series 'a{b'",
    "query --series ''",
    "demo --nodes 1",
    "demo --for 1s",
    "completions tcsh",
    "man frobnicate",
    "man query --out /tmp",
];

/// Right, where there is a node or a mesh.
const WITHOUT_MESH: &[&str] = &[
    "status",
    "status --json --watch",
    "tail",
    "ping attic",
    "dashboard",
    "dashboard --print",
    "members",
    "invite",
    "evict attic",
    "retire attic",
    "rename attic roof",
    "approve",
    "approve attic",
    "leave",
    "admin key",
    "admin list",
    "admin add ann --out key",
    "admin revoke ann",
    "recover",
    "recover --setup",
    "rotate-key",
    "netcheck",
    "set site=home",
    "get",
    "query --series '*'",
];

fn configurations(typed: &mut Transcript) {
    let file = typed.home.path().join("outlast.toml");
    typed.run("--config /nowhere/outlast.toml check-config", "");
    typed.run("--config /nowhere/outlast.toml status", "");
    for text in [
        "lisen = \"[::]:51800\"\n",
        "listen = \"[::]:51800\"\n[store]\nlimit = 1\n",
        "[stroe]\n",
        "nonsense\n",
        "listen = 51800\n",
        "listen = \"51800\"\n",
        "endpoints = \"home.example.net:51800\"\n",
        "endpoints = [\"home.example.net\"]\n",
        "dashboard = \"localhost:5180\"\n",
        "[store]\nlimit_bytes = 10\n",
        "[store]\nlimit_bytes = -1\n",
        "listen = \"[::]:1\"\nlisten = \"[::]:2\"\n",
        "\u{1b}[31m = 1\n",
    ] {
        std::fs::write(&file, text).expect("write the configuration");
        let _ = writeln!(typed.text, "# {}", text.trim_end().escape_debug());
        let line = format!("--config '{}' check-config", file.display());
        typed.run(&line, "");
    }
    std::fs::write(&file, b"listen = \"\xff\"\n").expect("write the configuration");
    typed.run(&format!("--config '{}' up", file.display()), "");
    let dir = typed.home.path().join("conf.d");
    std::fs::create_dir(&dir).expect("make a directory");
    typed.run(&format!("--config '{}' up", dir.display()), "");
    typed.text = typed
        .text
        .replace(typed.home.path().to_str().expect("plain"), "~");
}

fn directories(typed: &mut Transcript) {
    let home = typed.home.path().to_owned();
    std::fs::write(home.join("file"), "x").expect("write a file");
    std::fs::create_dir(home.join("photos")).expect("make a directory");
    std::fs::write(home.join("photos/cat.jpg"), "x").expect("write a file");
    std::fs::create_dir(home.join("newer")).expect("make a directory");
    std::fs::write(home.join("newer/FORMAT"), "outlast 2\n").expect("write a file");
    std::os::unix::fs::symlink("nowhere", home.join("dangling")).expect("make a link");
    for dir in [
        "file",
        "file/below",
        "photos",
        "newer",
        "dangling",
        "/dev/null",
        "/proc/1/x",
    ] {
        let path = home.join(dir);
        for command in ["init", "up", "status", "members"] {
            typed.run(&format!("--state-dir '{}' {command}", path.display()), "");
        }
    }
    typed.run("--state-dir '' init", "");
    typed.text = typed.text.replace(home.to_str().expect("plain"), "~");
}

/// A founded mesh, and no node that runs.
fn member(typed: &mut Transcript) {
    let listen = ["--listen", "192.0.2.1:7000"];
    typed.home.ok("a", &["init", "--name", "attic"], "");
    let other = typed
        .home
        .ok("b", &["init", "--invite", "1", listen[0], listen[1]], "");
    typed.text += "# `outlast init --name attic` was here\n\n";
    typed.run("init", "");
    for line in [
        "invite --listen 127.0.0.1:0",
        "invite --replaces atic --listen 192.0.2.1:7000",
        "invite --replaces attic --listen 192.0.2.1:7000",
        "invite --revoke abc",
        "invite --revoke ''",
        "evict atic",
        "evict attic",
        "retire attic",
        "rename atic roof",
        "rename attic Roof",
        "approve attic",
        "approve atic",
        "admin add ann oa1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "admin revoke ann",
        "admin revoke admin",
        "recover",
        "recover --words-file /nowhere/words",
        "recover --setup",
        "invite --admin-key /nowhere/key --listen 192.0.2.1:7000",
        "netcheck",
        "set atic site=home",
        "get atic",
        "query --series '*' --node atic",
        "query --series '*' --node '[a'",
        "query --series '*' --node ''",
    ] {
        typed.run(line, "");
    }
    let (code, said) = typed.home.fails("a", &["join"], &other);
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("the token is for mesh home"), "{said}");
}

#[test]
fn arguments_that_are_no_text_are_refused_without_being_printed_raw() {
    let home = Home::new();
    for line in [
        [&b"status"[..], b"--\xff\x1b"],
        [b"ping", b"\xff\x1b[31m"],
        [b"up", b"\x1b[31mred"],
        [b"\x1b[31mred", b"x"],
    ] {
        let output = home
            .command("a", &[])
            .args(line.map(OsStr::from_bytes))
            .stdin(Stdio::null())
            .output()
            .expect("start the program");
        let said = err(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn a_directory_of_another_user_is_told_as_such() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    home.ok("a", &["init"], "");
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("open the home");
    // Where it was built another user may not go.
    let program = home.path().join("outlast");
    std::fs::copy(env!("CARGO_BIN_EXE_outlast"), &program).expect("copy the program");
    for command in ["members", "status", "init"] {
        let start = || {
            Command::new(&program)
                .arg(command)
                .env_clear()
                .env("HOME", home.path())
                .env("OUTLAST_STATE_DIR", home.state("a"))
                .uid(65_534)
                .output()
        };
        // Another test's child holds the copy open for writing until it has become its own program.
        let output = std::iter::repeat_with(start)
            .find(|started| !matches!(started, Err(error) if error.kind() == ErrorKind::ExecutableFileBusy))
            .expect("it goes on for ever")
            .expect("start the program");
        let said = err(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert_eq!(said.lines().count(), 1, "{command}: {said}");
        assert!(said.contains("ermission denied"), "{command}: {said}");
        assert!(said.contains("as the user"), "{command}: {said}");
    }
}
