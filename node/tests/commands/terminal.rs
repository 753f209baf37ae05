//! What a command asks at the terminal, and does where there is none: recovery words, passphrases.
//!
//! Each command runs as the leader of a session of its own, its terminal one that the test holds the other end of.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::home::{Home, admin_keys};

/// A busy machine may take long; nothing here waits for it without cause.
const SOON: Duration = Duration::from_secs(60);

/// Who sits in front of a command.
struct Person {
    keyboard: File,
    screen: Receiver<u8>,
    seen: String,
    child: Child,
}

impl Person {
    /// Starts a command of `node` with its standard output in a file.
    fn at(home: &Home, node: &str, arguments: &[&str], stdout: &Path) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("grant it");
        unlockpt(&ours).expect("unlock it");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let theirs: OwnedFd = rustix::fs::open(
            name.as_c_str(),
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
            rustix::fs::Mode::empty(),
        )
        .expect("open its other end");
        let ordinary = home.command(node, arguments);
        let stderr = theirs.try_clone().expect("a second of it");
        let child = Command::new("/usr/bin/setsid")
            .args(["--ctty", "--wait"])
            .arg(ordinary.get_program())
            .args(ordinary.get_args())
            .env_clear()
            .envs(
                ordinary
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .stdin(Stdio::from(theirs))
            .stdout(File::create(stdout).expect("a file"))
            .stderr(Stdio::from(stderr))
            .spawn()
            .expect("start the program");
        let keyboard = File::from(ours);
        let mut screen = keyboard.try_clone().expect("the screen");
        let (shown, seen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut letter = [0];
            while let Ok(1) = screen.read(&mut letter) {
                if shown.send(letter[0]).is_err() {
                    break;
                }
            }
        });
        Self {
            keyboard,
            screen: seen,
            seen: String::new(),
            child,
        }
    }

    /// Waits until the screen shows `text`, and gives back what came before it.
    fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        while !self.seen.ends_with(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(letter) => self.seen.push(char::from(letter)),
                Err(_) => panic!("no {text:?} in {:?}", self.seen),
            }
        }
        let end = self.seen.len() - text.len();
        std::mem::take(&mut self.seen)[..end].to_owned()
    }

    fn types(&mut self, text: &str) {
        writeln!(self.keyboard, "{text}").expect("type");
    }

    /// The exit code, and the rest of what was shown.
    fn ends(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for the program") {
                break status;
            }
            assert!(Instant::now() < deadline, "it goes on: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut rest = self.seen;
        while let Ok(letter) = self.screen.recv_timeout(Duration::from_millis(200)) {
            rest.push(char::from(letter));
        }
        (status.code(), rest)
    }
}

/// The words as they stand on the screen, each after its number.
fn words_on(screen: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut shown = screen.split_whitespace().peekable();
    while let Some(text) = shown.next() {
        if text.parse() == Ok(words.len() + 1) {
            words.extend(shown.peek().map(|word| (*word).to_owned()));
        }
    }
    words
}

#[test]
fn recovery_words_are_shown_on_the_terminal_though_the_token_goes_to_a_file() {
    let home = Home::new();
    let token = home.path().join("token");
    let mut person = Person::at(&home, "a", &["init", "--invite", "2"], &token);
    let before = person.until("\u{1b}[?1049h");
    assert!(!before.contains("Write these"), "{before}");
    let words = words_on(&person.until("Press Enter when you have them all. "));
    assert_eq!(words.len(), 24, "{words:?}");
    person.types("");
    for _ in 0..3 {
        person.until("Word ");
        let number: usize = person.until("? ").parse().expect("a number");
        person.types(&words[number - 1]);
    }
    person.until("\u{1b}[?1049l");
    let (code, said) = person.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("founded mesh home"), "{said}");
    assert!(!said.contains("no recovery words were made"), "{said}");
    let token = std::fs::read_to_string(token).expect("the token");
    assert!(
        token.starts_with("ol1") && !token.contains(&words[0]),
        "{token}"
    );

    let given = home.path().join("words");
    std::fs::write(&given, words.join(" ")).expect("write the words");
    std::fs::remove_dir_all(home.path().join(".config")).expect("lose the key");
    let recover = ["recover", "--words-file", given.to_str().expect("plain")];
    let recovered = home.ok("a", &recover, "");
    assert!(
        recovered.starts_with("new admin key recovered"),
        "{recovered}"
    );
}

#[test]
fn a_passphrase_is_asked_for_unseen_and_three_wrong_ones_change_nothing() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    let out = home.path().join("out");
    let mut person = Person::at(&home, "a", &["admin", "key", "--passphrase"], &out);
    person.until("New passphrase for the admin key: ");
    person.types("correct horse");
    person.until("The same again: ");
    person.types("correct horse");
    let (code, said) = person.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("horse"), "{said}");
    let [key] = &admin_keys(&home)[..] else {
        panic!("one key")
    };
    let kept = std::fs::read_to_string(key).expect("the key file");
    assert!(kept.starts_with("outlast-sealed-key-1 "), "{kept}");

    let asks = format!("Passphrase of {}: ", key.display());
    let mut person = Person::at(&home, "a", &["set", "site=attic"], &out);
    for _ in 0..3 {
        person.until(&asks);
        person.types("wrong");
    }
    let (code, said) = person.ends();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("this is not the passphrase of the admin key"),
        "{said}"
    );
    let mut person = Person::at(&home, "a", &["set", "site=attic"], &out);
    person.until(&asks);
    person.types("wrong");
    person.until(&asks);
    person.types("correct horse");
    let (code, said) = person.ends();
    assert_eq!((code, said.contains("horse")), (Some(0), false), "{said}");
    let printed = std::fs::read_to_string(out).expect("the output");
    assert_eq!(printed, "every node: site=attic\n");
}

#[test]
fn where_nobody_can_type_a_passphrase_it_is_told_how_to_give_it() {
    let home = Home::new();
    let file = home.path().join("passphrase");
    std::fs::write(&file, "correct horse\n").expect("write it");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("keep it private");
    let file = file.to_str().expect("plain");
    let alone = |arguments: &[&str]| {
        let ordinary = home.command("a", arguments);
        let output = Command::new("/usr/bin/setsid")
            .arg("--wait")
            .arg(ordinary.get_program())
            .args(ordinary.get_args())
            .env_clear()
            .envs(
                ordinary
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .stdin(Stdio::null())
            .output()
            .expect("start the program");
        let said = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), said)
    };
    let (code, said) = alone(&["init", "--passphrase"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("nobody is here to type a passphrase"),
        "{said}"
    );
    let (code, said) = alone(&["init", "--passphrase-file", file, "--invite", "1"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = alone(&["set", "site=attic"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("has a passphrase, and nobody is here to type it: run this on a terminal, or give --passphrase-file"),
        "{said}"
    );
    let (code, said) = alone(&["set", "site=attic", "--passphrase-file", file]);
    assert_eq!(code, Some(0), "{said}");
}
