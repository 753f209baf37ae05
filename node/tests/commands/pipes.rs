//! Standard output that is closed, full, or read by nobody; colour and where it goes.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use crate::home::{Home, err, out};

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    for line in [
        &["members"][..],
        &["members", "--json"],
        &["query", "--series", "*", "--csv"],
        &["--help"],
        &["query", "--help"],
        &["--version"],
        &["completions", "bash"],
        &["man"],
        &["genkey"],
        &["check-config"],
        &["doctor"],
    ] {
        let mut child = home
            .command("a", line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("wait for the program");
        assert_eq!(err(&output), "", "{line:?}");
        // `doctor` may have found something to mend on this machine.
        let doctor = line == ["doctor"] && output.status.code() == Some(1);
        assert!(
            output.status.success() || doctor,
            "{line:?}: {}",
            output.status
        );
    }
}

#[test]
fn a_full_standard_output_is_a_failure_in_one_line() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    for line in [
        &["members"][..],
        &["query", "--series", "*", "--csv"],
        &["completions", "bash"],
        &["man"],
        &["genkey"],
        &["--help"],
        &["--version"],
        &["check-config"],
        &["doctor", "--json"],
    ] {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("open /dev/full");
        let output = home
            .command("a", line)
            .stdin(Stdio::null())
            .stdout(full)
            .output()
            .expect("start the program");
        assert_eq!(
            (output.status.code(), err(&output).as_str()),
            (
                Some(1),
                "outlast: write to standard output: No space left on device (os error 28)\n"
            ),
            "{line:?}"
        );
    }
}

#[test]
fn a_token_that_nobody_got_is_told_with_its_invite() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    let invite = ["invite", "--listen", "192.0.2.1:7000"];
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("open /dev/full");
    let (reader, closed) = std::io::pipe().expect("make a pipe");
    drop(reader);
    for (stdout, why) in [
        (
            Stdio::from(full),
            "write to standard output: No space left on device (os error 28)",
        ),
        (Stdio::from(closed), "its reader went away"),
    ] {
        let output = home
            .command("a", &invite)
            .stdin(Stdio::null())
            .stdout(stdout)
            .output()
            .expect("start the program");
        let said = err(&output);
        assert_eq!(
            (output.status.code(), said.lines().count()),
            (Some(1), 1),
            "{said}"
        );
        assert!(said.starts_with("outlast: the token of invite "), "{said}");
        assert!(
            said.contains(&format!("was not written: {why}; ")),
            "{said}"
        );
        assert!(said.contains("expires at 20"), "{said}");
    }
}

#[test]
fn a_closed_standard_input_or_error_stops_nothing() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    let shell = |redirect: &str| {
        let line = format!("exec \"$0\" members {redirect}");
        let output = home.command("a", &[]);
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", &line])
            .arg(output.get_program())
            .env_clear();
        bash.env("HOME", home.path())
            .env("OUTLAST_STATE_DIR", home.state("a"));
        bash.output().expect("run bash")
    };
    for redirect in ["<&-", "2>&-", "<&- 2>&-"] {
        let output = shell(redirect);
        assert!(output.status.success(), "{redirect}: {}", err(&output));
        assert!(
            out(&output).starts_with("NAME"),
            "{redirect}: {}",
            out(&output)
        );
    }
    // Closed standard output is a place to write that nobody reads.
    let output = shell(">&-");
    assert!(err(&output).lines().count() <= 1, "{}", err(&output));
}

#[test]
fn colour_is_for_terminals_unless_asked_for_and_never_in_json() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    let escape = '\u{1b}';
    let said = |line: &[&str]| home.ok("a", line, "");
    assert!(!said(&["members"]).contains(escape));
    assert!(said(&["members", "--color", "always"]).contains(escape));
    assert!(!said(&["members", "--color", "always", "--json"]).contains(escape));
    assert!(!said(&["--help"]).contains(escape));
    assert!(!said(&["query", "--help"]).contains(escape));

    for (variables, coloured) in [
        (&[][..], true),
        (&[("NO_COLOR", "1")], false),
        (&[("NO_COLOR", "")], true),
    ] {
        let shown = on_a_terminal(&home, &["members"], variables);
        assert_eq!(shown.contains(escape), coloured, "{variables:?}: {shown:?}");
    }
    let shown = on_a_terminal(&home, &["--color", "never", "members"], &[]);
    assert!(!shown.contains(escape), "{shown:?}");
    let shown = on_a_terminal(
        &home,
        &["--color", "always", "members"],
        &[("NO_COLOR", "1")],
    );
    assert!(shown.contains(escape), "{shown:?}");
    for mistake in [&["--help"][..], &["statu"]] {
        let shown = on_a_terminal(&home, mistake, &[("NO_COLOR", "1")]);
        assert!(!shown.contains(escape), "{mistake:?}: {shown:?}");
    }
}

/// What a command shows on a terminal of its own, made by `script` of util-linux.
fn on_a_terminal(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let program = home
        .command("a", &[])
        .get_program()
        .to_string_lossy()
        .into_owned();
    let words: Vec<String> = std::iter::once(program.as_str())
        .chain(arguments.iter().copied())
        .map(|word| format!("'{word}'"))
        .collect();
    let mut script = std::process::Command::new("script");
    script
        .args([
            "--quiet",
            "--return",
            "--command",
            &words.join(" "),
            "/dev/null",
        ])
        .env_clear()
        .env("HOME", home.path())
        .env("TERM", "xterm")
        .env("OUTLAST_STATE_DIR", home.state("a"))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = script.spawn().expect("run script, of util-linux");
    let mut shown = String::new();
    let mut stdout = child.stdout.take().expect("stdout is piped");
    stdout
        .read_to_string(&mut shown)
        .expect("read the terminal");
    child.wait().expect("wait for script");
    shown
}
