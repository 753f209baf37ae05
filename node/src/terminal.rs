//! The person at the terminal: what is shown to nobody else, and what only they can type.
//!
//! In: `/dev/tty`, which is theirs wherever standard input and output go. Out: lines, some of them typed unseen.
//! Invariant: what a command changes of the terminal is put back when it is done, and on Ctrl-C.
//! Absent: what is asked, and ordinary output.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The longest line that is taken, in bytes; more than a kernel's line editor hands on.
const LONGEST: usize = 4096;

const TTY: &str = "/dev/tty";

/// A terminal that somebody sits at.
#[derive(Debug)]
pub(crate) struct Terminal {
    tty: File,
}

/// What has to be put back.
struct Altered {
    other_screen: bool,
    modes: Option<Termios>,
}

static ALTERED: Mutex<Altered> = Mutex::new(Altered {
    other_screen: false,
    modes: None,
});

impl Terminal {
    /// The terminal this process was started from. `None`: there is none.
    pub(crate) fn open() -> Option<Self> {
        let tty = OpenOptions::new().read(true).write(true).open(TTY).ok()?;
        Some(Self { tty })
    }

    /// The same where standard input is a terminal too, so that a script that feeds this command is never made to wait.
    pub(crate) fn of_reader() -> Option<Self> {
        Self::open().filter(|_| std::io::stdin().is_terminal())
    }

    /// Writes text as it is.
    pub(crate) fn say(&self, text: &str) {
        // Who can't be told can't answer either.
        let _ = (&self.tty).write_all(text.as_bytes());
    }

    /// What is typed up to Enter. `None`: nothing more comes.
    pub(crate) fn line(&self) -> Option<Zeroizing<String>> {
        let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST));
        let mut letter = Zeroizing::new([0]);
        while typed.len() < LONGEST {
            match (&self.tty).read(&mut *letter) {
                Ok(1) if letter[0] == b'\n' => break,
                Ok(1) => typed.push(letter[0]),
                _ if typed.is_empty() => return None,
                _ => break,
            }
        }
        let text = std::str::from_utf8(&typed).ok()?;
        Some(Zeroizing::new(text.to_owned()))
    }

    /// The same, with nothing of it on the screen.
    pub(crate) fn unseen(&self, question: &str) -> Option<Zeroizing<String>> {
        put_back_on_signal();
        let modes = tcgetattr(&self.tty).ok()?;
        let mut silent = modes.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        altered().modes = Some(modes);
        let _back = Back;
        tcsetattr(&self.tty, OptionalActions::Flush, &silent).ok()?;
        self.say(question);
        self.line()
    }

    /// Turns to the other screen, of which nothing stays in the scroll-back, until what is returned is dropped.
    pub(crate) fn other_screen(&self) -> impl Drop + use<> {
        put_back_on_signal();
        altered().other_screen = true;
        self.say("\u{1b}[?1049h\u{1b}[2J\u{1b}[H");
        Back
    }
}

/// Puts everything back when dropped.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        put_back();
    }
}

fn altered() -> std::sync::MutexGuard<'static, Altered> {
    ALTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put_back() {
    let mut altered = altered();
    let Some(terminal) = Terminal::open() else {
        return;
    };
    if let Some(modes) = altered.modes.take() {
        let _ = tcsetattr(&terminal.tty, OptionalActions::Flush, &modes);
    }
    if std::mem::take(&mut altered.other_screen) {
        terminal.say("\u{1b}[2J\u{1b}[H\u{1b}[?1049l");
    }
}

fn put_back_on_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::interrupt::on_signal(|| {
            put_back();
            std::process::exit(i32::from(crate::failure::FAILED));
        });
    });
}
