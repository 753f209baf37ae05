//! Waiting for the end of a process that has to end.
//!
//! `status` waits, `output` gathers what it prints meanwhile.
//! Invariant: a process that goes on past `limit` is killed and fails the test with its name; a test never hangs on it.

use std::io::Read;
use std::process::{Child, ExitStatus, Output};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How a process ended.
///
/// # Panics
/// When it is still there after `limit`.
pub fn status(child: &mut Child, what: &str, limit: Duration) -> ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("look at a child") {
            return status;
        }
        if Instant::now() >= deadline {
            child.kill().expect("kill a child");
            child.wait().expect("reap a child");
            panic!("{what} had not ended after {limit:?}");
        }
        std::thread::sleep(LOOK);
    }
}

/// How a process ended, and all it printed.
///
/// # Panics
/// When it is still there after `limit`.
pub fn output(mut child: Child, what: &str, limit: Duration) -> Output {
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let status = status(&mut child, what, limit);
    let all = |reader: JoinHandle<Vec<u8>>| reader.join().expect("a reader doesn't panic");
    Output {
        status,
        stdout: all(stdout),
        stderr: all(stderr),
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is what there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}
