//! What an uninterruptible power supply says, by the protocol of NUT (`upsd`, TCP port 3493).
//!
//! Asked aside, every 5 s, each time over a connection of its own: list of supplies, then what each says. Where nobody was
//! configured, loopback is tried once a minute, and a refused connection means that the machine has none.
//! Bounds: `MAX_UPS` supplies, `MAX_BYTES` an answer, `PATIENCE` for each step. Nothing is ever set or commanded.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::{Aside, Measured};
use super::board::Board;
use super::kept::Buffer;
use super::sheet::{Family, Sheet, Spec};
use super::steady::Steady;

/// Where upsd listens on every machine that has one.
pub(crate) const DEFAULT: &str = "127.0.0.1:3493";

/// Between two looks where there is a UPS, and where there is none.
const OFTEN: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_mins(1);

const PATIENCE: Duration = Duration::from_secs(2);
const MAX_UPS: usize = 8;
const MAX_BYTES: u64 = 64 * 1024;

const SPECS: [Spec; 7] = [
    Spec::gauge("outlast_ups_online", "", 0),
    Spec::gauge("outlast_ups_on_battery", "", 0),
    Spec::gauge("outlast_ups_low_battery", "", 0),
    Spec::gauge("outlast_ups_battery_percent", "percent", -1),
    Spec::gauge("outlast_ups_runtime_seconds", "seconds", 0),
    Spec::gauge("outlast_ups_load_percent", "percent", -1),
    Spec::gauge("outlast_ups_input_volts", "volts", -1),
];

/// One uninterruptible power supply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ups {
    /// Its name at upsd.
    pub name: String,
    /// Whether it is fed by mains. `None`: it doesn't say.
    pub online: Option<bool>,
    /// Whether it feeds from its battery.
    pub on_battery: Option<bool>,
    /// Whether its battery is nearly empty.
    pub low_battery: Option<bool>,
    /// How full its battery is, tenths of a percent.
    pub battery_permille: Option<u64>,
    /// For how many seconds it lasts at this load.
    pub runtime_s: Option<u64>,
    /// Its load, tenths of a percent.
    pub load_permille: Option<u64>,
    /// What mains give, tenths of a volt.
    pub input_decivolts: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Upses {
    measured: Aside<Vec<Ups>>,
    shown: Board<Vec<Ups>>,
    /// Whether the owner named it: on loopback any local user may answer as upsd.
    is_trusted: bool,
    steady: Steady,
    family: Family<7>,
}

impl Upses {
    /// Asks `configured`, or whoever answers on loopback; nobody else where files of another machine are read.
    pub(super) fn new(configured: Option<String>, of_this_machine: bool) -> Self {
        let is_trusted = configured.is_some();
        let measured = Aside::start("ups", move || {
            let found = if configured.is_some() || of_this_machine {
                ask_for(configured.as_deref())
            } else {
                Err(io::ErrorKind::NotFound.into())
            };
            let again = if found.is_ok() || configured.is_some() {
                OFTEN
            } else {
                SELDOM
            };
            Measured { found, again }
        });
        Self {
            measured,
            shown: Board::new(),
            is_trusted,
            steady: Steady::new(MAX_UPS),
            family: Family::new(SPECS),
        }
    }

    /// Each UPS, as of the last look; only of an upsd that the owner named, for verdicts rest on it.
    pub(super) fn shown(&self) -> Board<Vec<Ups>> {
        self.shown.clone()
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let found = self.measured.latest(buffer, now);
        let trusted = found.as_ref().filter(|_| self.is_trusted);
        self.shown.show(trusted.map(Arc::clone));
        let names = found.iter().flat_map(|all| all.iter());
        self.steady.look(names.map(|ups| ups.name.as_str()), now);
        for ups in found.iter().flat_map(|all| all.iter()) {
            if !self.steady.has(&ups.name) {
                continue;
            }
            if let Some(slots) = self.family.slots(sheet, &ups.name, &[("ups", &ups.name)]) {
                sheet.set_all(slots, ups.values());
            }
        }
    }
}

impl Ups {
    fn values(&self) -> [Option<u64>; 7] {
        let flag = |flag: Option<bool>| flag.map(u64::from);
        [
            flag(self.online),
            flag(self.on_battery),
            flag(self.low_battery),
            self.battery_permille,
            self.runtime_s,
            self.load_permille,
            self.input_decivolts,
        ]
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "ups.status" => {
                let has =
                    |flag: &str| Some(value.split_ascii_whitespace().any(|word| word == flag));
                self.online = has("OL");
                self.on_battery = has("OB");
                self.low_battery = has("LB");
            }
            "battery.charge" => self.battery_permille = tenths(value),
            "battery.runtime" => self.runtime_s = tenths(value).map(|tenths| tenths / 10),
            "ups.load" => self.load_permille = tenths(value),
            "input.voltage" => self.input_decivolts = tenths(value),
            _ => {}
        }
    }
}

fn ask_for(configured: Option<&str>) -> io::Result<Vec<Ups>> {
    match (ask(configured.unwrap_or(DEFAULT)), configured) {
        // Nobody said that there is one.
        (Err(_), None) => Err(io::ErrorKind::NotFound.into()),
        (asked, _) => asked,
    }
}

fn ask(address: &str) -> io::Result<Vec<Ups>> {
    let mut addresses = address.to_socket_addrs()?;
    let address: SocketAddr = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let deadline = Instant::now() + PATIENCE;
    let mut reader = BufReader::new(&stream);
    let mut exchange = |question: &str| -> io::Result<String> {
        (&stream).write_all(format!("{question}\n").as_bytes())?;
        let end = format!("END {question}");
        read_until(&mut reader, &end, deadline)
    };
    let mut all = Vec::new();
    for name in names(&exchange("LIST UPS")?) {
        let mut ups = Ups {
            name: name.clone(),
            ..Ups::default()
        };
        for (key, value) in variables(&exchange(&format!("LIST VAR {name}"))?, &name) {
            ups.set(&key, &value);
        }
        all.push(ups);
    }
    // It closes either way.
    let _ = (&stream).write_all(b"LOGOUT\n");
    if all.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(all)
}

/// All lines before the one that ends the answer.
fn read_until(
    reader: &mut BufReader<&TcpStream>,
    end: &str,
    deadline: Instant,
) -> io::Result<String> {
    let mut answer = String::new();
    let mut limited = reader.take(MAX_BYTES);
    loop {
        let mut line = Vec::new();
        // Byte by byte, so that one which comes just in time each time can't hold the thread beyond the deadline.
        while !line.ends_with(b"\n") {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut byte = [0];
            if limited.read(&mut byte)? == 0 {
                break;
            }
            line.push(byte[0]);
        }
        let len = line.len();
        let line = String::from_utf8_lossy(&line);
        let said = line.trim_end();
        if said == end {
            return Ok(answer);
        }
        if let Some(why) = said.strip_prefix("ERR ") {
            let why = why.get(..64).unwrap_or(why);
            return Err(io::Error::other(format!("upsd refuses: {why}")));
        }
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        answer.push_str(said);
        answer.push('\n');
    }
}

/// The supplies of an answer to `LIST UPS`: lines `UPS NAME "what it is"`.
pub(super) fn names(answer: &str) -> Vec<String> {
    let named = answer.lines().filter_map(|line| {
        let name = line.strip_prefix("UPS ")?.split(' ').next()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = !name.is_empty() && name.len() <= 64 && name.bytes().all(plain);
        fits.then(|| name.to_owned())
    });
    named.take(MAX_UPS).collect()
}

/// What one supply says: lines `VAR NAME key "value"`, with quotes and backslashes in the value escaped.
pub(super) fn variables(answer: &str, name: &str) -> Vec<(String, String)> {
    let said = answer.lines().filter_map(|line| {
        let rest = line.strip_prefix("VAR ")?.strip_prefix(name)?;
        let (key, value) = rest.strip_prefix(' ')?.split_once(' ')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        let mut plain = String::new();
        let mut letters = value.chars();
        while let Some(letter) = letters.next() {
            plain.extend(if letter == '\\' {
                letters.next()
            } else {
                Some(letter)
            });
        }
        Some((key.to_owned(), plain))
    });
    said.collect()
}

/// A number with or without decimals, in tenths.
fn tenths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits =
        !whole.is_empty() && (whole.bytes().chain(part.bytes())).all(|b| b.is_ascii_digit());
    let tenth = part
        .bytes()
        .next()
        .map_or(0, |digit| u64::from(digit.saturating_sub(b'0')));
    let whole = whole.parse::<u64>().ok().filter(|_| digits)?;
    whole.checked_mul(10)?.checked_add(tenth)
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    const LIST: &str = include_str!("../../fixtures/odd/nut-list");
    const VARIABLES: &str = include_str!("../../fixtures/odd/nut-variables");

    #[test]
    fn a_ups_on_its_battery_is_asked_for_everything() {
        let upsd = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = upsd.local_addr().unwrap().to_string();
        let served = std::thread::spawn(move || serve(&upsd, &[LIST, VARIABLES]));

        let found = ask(&address).unwrap();

        let wanted = Ups {
            name: "cellar".to_owned(),
            online: Some(false),
            on_battery: Some(true),
            low_battery: Some(false),
            battery_permille: Some(870),
            runtime_s: Some(1_260),
            load_permille: Some(235),
            input_decivolts: Some(0),
        };
        assert_eq!(found, [wanted]);
        let questions = served.join().unwrap();
        assert_eq!(questions, ["LIST UPS", "LIST VAR cellar"]);
    }

    #[test]
    fn a_refusal_and_a_connection_that_ends_are_failures() {
        let refused = |answers: &'static [&'static str]| {
            let upsd = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = upsd.local_addr().unwrap().to_string();
            let served = std::thread::spawn(move || serve(&upsd, answers));
            let error = ask(&address).unwrap_err().to_string();
            served.join().unwrap();
            error
        };
        assert_eq!(
            refused(&["ERR ACCESS-DENIED\n"]),
            "upsd refuses: ACCESS-DENIED"
        );
        assert_eq!(refused(&["BEGIN LIST UPS\n"]), "unexpected end of file");
    }

    #[test]
    fn without_a_word_in_the_configuration_nobody_is_missed() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap().to_string();
        drop(closed);
        let refused = ask_for(Some(&address)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn who_answers_unasked_gets_few_series_and_no_verdict_rests_on_it() {
        let start = Instant::now();
        for (is_trusted, shows) in [(false, false), (true, true)] {
            let mut upses = Upses {
                measured: Aside::holding(Vec::new(), start, OFTEN),
                shown: Board::new(),
                is_trusted,
                steady: Steady::new(MAX_UPS),
                family: Family::new(SPECS),
            };
            let mut sheet = Sheet::new(start);
            let mut series = 0;
            for look in 0..100_u64 {
                let now = start + Duration::from_secs(look * 700);
                let named = |at: u64| Ups {
                    name: format!("u{}", look / 4 * 8 + at),
                    ..Ups::default()
                };
                upses.measured = Aside::holding((0..8).map(named).collect(), now, OFTEN);
                sheet.begin(now);
                upses.tick(&mut sheet, &mut Buffer::new(), now);
                series += sheet.finish().appended.len();
            }
            assert_eq!(series, MAX_UPS * SPECS.len());
            assert_eq!(upses.shown().latest().is_some(), shows);
        }
    }

    #[test]
    fn what_upsd_writes_is_read_to_the_letter() {
        let found = variables(VARIABLES, "cellar");
        let value = |key: &str| {
            let found = found.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("device.model"), Some(r#"Back-UPS "700" \ EU"#));
        assert_eq!(value("ups.status"), Some("OB DISCHRG"));
        assert_eq!(
            variables("VAR cellar2 a \"1\"\nVAR cellar a 1\n", "cellar"),
            []
        );
        assert_eq!(names("UPS a b\nUPS ../x \"y\"\nUPS \n"), ["a"]);
        let many: String = (0..20).map(|at| format!("UPS u{at} \"\"\n")).collect();
        assert_eq!(names(&many).len(), MAX_UPS);
    }

    #[test]
    fn numbers_keep_their_first_decimal() {
        let cases = [
            ("87", Some(870)),
            ("23.5", Some(235)),
            ("0.09", Some(0)),
            ("230.", Some(2_300)),
        ];
        for (text, wanted) in cases {
            assert_eq!(tenths(text), wanted, "{text}");
        }
        for text in ["", ".5", "-1", "1e3", "18446744073709551615", "1.x"] {
            assert_eq!(tenths(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text: String, name in "[a-z]{0,4}") {
            names(&text);
            for (key, value) in variables(&text, &name) {
                Ups::default().set(&key, &value);
            }
        }
    }

    /// Answers one question after the other, and tells which they were.
    fn serve(upsd: &TcpListener, answers: &[&str]) -> Vec<String> {
        let (stream, _) = upsd.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut reader = BufReader::new(&stream);
        let mut questions = Vec::new();
        for answer in answers {
            let mut question = String::new();
            reader.read_line(&mut question).unwrap();
            questions.push(question.trim_end().to_owned());
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
        questions
    }
}
