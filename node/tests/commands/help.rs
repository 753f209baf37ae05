//! Every page of help, word by word, in `help/`. `make bless` writes them anew; then read what changed.

use expect_test::expect_file;

use crate::home::Home;

/// The commands that `--help` lists, so that a new one can't be left out here.
fn listed(help: &str) -> Vec<&str> {
    let list = help.split_once("\nCommands:\n");
    let lines = list.map_or("", |(_, list)| list).lines();
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect()
}

#[test]
fn every_page_of_help_is_as_it_was_read_last() {
    let home = Home::new();
    let help = home.ok("a", &["--help"], "");
    expect_file!["help/outlast.txt"].assert_eq(&help);
    let commands = listed(&help);
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let said = home.ok("a", &[command, "--help"], "");
        assert!(said.contains("\nExamples:\n  "), "{said}");
        assert!(said.lines().count() <= 45, "too long to be read:\n{said}");
        expect_file![format!("help/{command}.txt")].assert_eq(&said);
        for below in listed(&said) {
            let said = home.ok("a", &[command, below, "--help"], "");
            expect_file![format!("help/{command}-{below}.txt")].assert_eq(&said);
        }
    }
}

#[test]
fn hidden_commands_are_nowhere_in_help_pages_and_completions() {
    let home = Home::new();
    let shown = [
        home.ok("a", &["--help"], ""),
        home.ok("a", &["man"], ""),
        home.ok("a", &["completions", "bash"], ""),
        home.ok("a", &["completions", "zsh"], ""),
        home.ok("a", &["completions", "fish"], ""),
    ];
    for text in shown {
        assert!(!text.contains("store-check"), "{text}");
        assert!(!text.contains("isolate"), "{text}");
    }
}

#[test]
fn the_version_is_one_line() {
    let home = Home::new();
    assert_eq!(
        home.ok("a", &["--version"], ""),
        format!("outlast {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_page_is_written_for_every_command() {
    let home = Home::new();
    let dir = home.path().join("man1");
    home.ok(
        "a",
        &["man", "--out", dir.to_str().expect("a plain path")],
        "",
    );
    let help = home.ok("a", &["--help"], "");
    for command in listed(&help) {
        let page = std::fs::read_to_string(dir.join(format!("outlast-{command}.1")));
        let page = page.expect("a page a command");
        assert!(
            page.contains(&format!(".TH \"outlast-{command}\" \"1\"")),
            "{page}"
        );
    }
    let page = std::fs::read_to_string(dir.join("outlast.1")).expect("the program's page");
    assert!(page.contains("outlast\\-query(1)"), "{page}");
}

#[test]
fn bash_completes_commands_and_those_below_them() {
    let home = Home::new();
    for (words, last, found) in [
        ("outlast st", "st", "status"),
        ("outlast service ins", "ins", "install"),
        ("outlast query --ser", "--ser", "--series"),
    ] {
        assert_eq!(completed(&home, words, last), found, "{words}");
    }
}

/// What bash makes of a line whose last word is begun.
fn completed(home: &Home, words: &str, last: &str) -> String {
    let script = home.path().join("completions.bash");
    std::fs::write(&script, home.ok("a", &["completions", "bash"], "")).expect("write");
    let typed = "source \"$1\"; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=\"$2\"; \
                 COMP_POINT=${#2}; _outlast outlast \"$3\" outlast; echo \"${COMPREPLY[@]}\"";
    let bash = std::process::Command::new("bash")
        .args(["-euc", typed, "bash"])
        .arg(&script)
        .args([words, last])
        .output()
        .expect("run bash");
    assert_eq!(String::from_utf8_lossy(&bash.stderr), "");
    String::from_utf8_lossy(&bash.stdout).trim().to_owned()
}
