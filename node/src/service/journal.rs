//! Log lines as the journal wants them: a priority in front, and neither the time nor the level nor colour.
//!
//! In: events. Out: `<4>a message field=value`; the journal takes the number off and keeps the time itself.
//! Absent: the journal's own protocol with a field per value; `--log-format json` has those.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether standard error goes to the journal: it says which pipe it reads, and ours is that one.
pub(crate) fn is_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// Writes events for the journal.
#[derive(Debug)]
pub(crate) struct Lines {
    inner: Format<Compact, ()>,
}

impl Lines {
    /// With the module in front of each message, or without.
    pub(crate) fn new(with_target: bool) -> Self {
        let inner = Format::default().without_time().compact();
        Self {
            inner: inner
                .with_level(false)
                .with_ansi(false)
                .with_target(with_target),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.inner.format_event(context, writer, event)
    }
}

/// The number syslog gave it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_a_priority_and_the_message() {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_writer(move || writer.clone())
            .event_format(Lines::new(false))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(peer = "attic", "not heard");
            tracing::info!("running");
            tracing::debug!(seq = 7, "a row");
        });
        let written = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            written,
            "<4>not heard peer=\"attic\"\n<6>running\n<7>a row seq=7\n"
        );
    }
}
