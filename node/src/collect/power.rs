//! What feeds this machine: mains, batteries, and for how long they last.
//!
//! Reads `/sys/class/power_supply/*/uevent`, which holds all a supply says. An embedded controller takes its time to answer,
//! so it is asked aside: every 2 s where there is something to ask, for a loss of mains must be known while there is
//! power to tell it. Batteries of mice and headsets are no supply of the machine.
//! Absent: a UPS, which is asked over the network (`ups`).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::{Aside, Measured};
use super::board::Board;
use super::kept::{Buffer, read_once};
use super::scan::{lines, signed};
use super::sheet::{Family, Sheet, Spec};
use super::steady::Steady;

/// Between two looks where there are supplies, and where there are none.
const OFTEN: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_mins(1);

/// The most supplies that are looked at.
const MAX_SUPPLIES: usize = 32;

/// The most supplies that have series in one run: a cordless mouse has a new name each time it comes back.
const MAX_SERIES: usize = 16;

/// The keys of what is kept, without `POWER_SUPPLY_`.
const KEYS: [&[u8]; 12] = [
    b"ONLINE",
    b"PRESENT",
    b"CAPACITY",
    b"ENERGY_NOW",
    b"ENERGY_FULL",
    b"CHARGE_NOW",
    b"CHARGE_FULL",
    b"POWER_NOW",
    b"CURRENT_NOW",
    b"VOLTAGE_NOW",
    b"TIME_TO_EMPTY_NOW",
    b"CYCLE_COUNT",
];

const SUPPLY: [Spec; 12] = [
    Spec::gauge("node_power_supply_online", "", 0),
    Spec::gauge("node_power_supply_present", "", 0),
    Spec::gauge("node_power_supply_capacity", "percent", 0),
    Spec::gauge("node_power_supply_energy_watthour", "watthours", -6),
    Spec::gauge("node_power_supply_energy_full_watthour", "watthours", -6),
    Spec::gauge("node_power_supply_charge_ampere", "amperehours", -6),
    Spec::gauge("node_power_supply_charge_full_ampere", "amperehours", -6),
    Spec::gauge("node_power_supply_power_watt", "watts", -6),
    Spec::gauge("node_power_supply_current_ampere", "amperes", -6),
    Spec::gauge("node_power_supply_voltage_volt", "volts", -6),
    Spec::gauge("node_power_supply_time_to_empty_seconds", "seconds", 0),
    Spec::gauge("node_power_supply_cyclecount", "", 0),
];

const INFO: [Spec; 1] = [Spec::gauge("node_power_supply_info", "", 0)];

/// What feeds the machine, in one word each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Power {
    /// Whether mains are there. `None`: nothing here tells.
    pub mains: Option<bool>,
    /// How full the emptiest battery is, percent. `None`: there is no battery.
    pub battery_percent: Option<u8>,
    /// For how many seconds the batteries last at this draw. `None`: they aren't drained, or nobody can tell.
    pub seconds_left: Option<u64>,
}

/// One supply as its file tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Supply {
    name: String,
    kind: String,
    status: String,
    is_of_a_device: bool,
    /// In the order of `KEYS`; energy and charge in millionths.
    values: [Option<i64>; 12],
}

#[derive(Debug)]
pub(super) struct Supplies {
    measured: Aside<Vec<Supply>>,
    power: Board<Power>,
    steady: Steady,
    supply: Family<12>,
    info: Family<1>,
}

impl Supplies {
    pub(super) fn new(root: &Path) -> Self {
        let class = root.join("sys/class/power_supply");
        let measured = Aside::start("power", move || {
            let found = measure(&class);
            let again = if found.is_ok() { OFTEN } else { SELDOM };
            Measured { found, again }
        });
        Self {
            measured,
            power: Board::new(),
            steady: Steady::new(MAX_SERIES),
            supply: Family::new(SUPPLY),
            info: Family::new(INFO),
        }
    }

    /// What feeds the machine, as of the last look.
    pub(super) fn power(&self) -> Board<Power> {
        self.power.clone()
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let Some(supplies) = self.measured.latest(buffer, now) else {
            return self.power.show(None);
        };
        self.power.show(Some(Arc::new(Power::of(&supplies))));
        self.steady
            .look(supplies.iter().map(|supply| supply.name.as_str()), now);
        for supply in supplies.iter() {
            if !self.steady.has(&supply.name) {
                continue;
            }
            let labels = [("power_supply", supply.name.as_str())];
            if let Some(slots) = self.supply.slots(sheet, &supply.name, &labels) {
                sheet.set_all(slots, supply.values);
            }
            let key = format!("{}\n{}", supply.name, supply.status);
            let labels = [
                labels[0],
                ("status", supply.status.as_str()),
                ("type", &supply.kind),
            ];
            if let Some(slots) = self.info.slots(sheet, &key, &labels) {
                sheet.set_all(slots, [Some(1)]);
            }
        }
    }
}

impl Power {
    fn of(supplies: &[Supply]) -> Self {
        let machines = || supplies.iter().filter(|supply| !supply.is_of_a_device);
        let batteries = || machines().filter(|supply| supply.kind == "Battery");
        let mut adapters = machines()
            .filter(|supply| supply.kind != "Battery")
            .filter_map(|supply| supply.values[0])
            .peekable();
        let drained = batteries().any(|battery| battery.status == "Discharging");
        let fed = batteries().any(|battery| {
            let status = battery.status.as_str();
            ["Charging", "Full", "Not charging"].contains(&status)
        });
        let mains = if adapters.peek().is_some() {
            Some(adapters.any(|online| online > 0))
        } else {
            (drained || fed).then_some(!drained)
        };
        let percent = batteries().filter_map(|battery| u8::try_from(battery.values[2]?).ok());
        let seconds = batteries().filter_map(Supply::seconds_left);
        Self {
            mains,
            battery_percent: percent.min(),
            seconds_left: seconds.reduce(u64::saturating_add),
        }
    }
}

impl Supply {
    fn seconds_left(&self) -> Option<u64> {
        if self.status != "Discharging" {
            return None;
        }
        let [_, _, _, energy, _, charge, _, power, current, _, said, _] = self.values;
        let by = |held: Option<i64>, drawn: Option<i64>| {
            // Some batteries tell what is drawn from them as less than zero.
            let (held, drawn) = (held?, drawn?.checked_abs()?);
            let held = held.checked_mul(3_600)?;
            held.checked_div(drawn)
        };
        let seconds = said
            .or_else(|| by(energy, power))
            .or_else(|| by(charge, current));
        u64::try_from(seconds?).ok()
    }
}

fn measure(class: &Path) -> io::Result<Vec<Supply>> {
    let mut supplies = Vec::new();
    let mut refused = None;
    for entry in std::fs::read_dir(class)?.take(MAX_SUPPLIES) {
        match read_once(&entry?.path().join("uevent")) {
            Ok(text) => supplies.extend(parse(&text)),
            Err(error) => refused = Some(error),
        }
    }
    supplies.sort_by(|a, b| a.name.cmp(&b.name));
    match refused {
        Some(error) if supplies.is_empty() => Err(error),
        _ if supplies.is_empty() => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(supplies),
    }
}

/// `None` where a text names no supply.
pub(super) fn parse(text: &[u8]) -> Option<Supply> {
    let mut supply = Supply::default();
    for line in lines(text) {
        let Some(line) = line.strip_prefix(b"POWER_SUPPLY_") else {
            continue;
        };
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (key, value) = (&line[..equals], &line[equals + 1..]);
        let word = || String::from_utf8_lossy(value.get(..64).unwrap_or(value)).into_owned();
        match key {
            b"NAME" => supply.name = word(),
            b"TYPE" => supply.kind = word(),
            b"STATUS" => supply.status = word(),
            b"SCOPE" => supply.is_of_a_device = value == b"Device",
            _ => {
                if let Some(at) = KEYS.iter().position(|known| *known == key) {
                    supply.values[at] = signed(value);
                }
            }
        }
    }
    (!supply.name.is_empty()).then_some(supply)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_laptop_on_its_battery_is_read() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let class = fixtures.join("linux-6.12-laptop/sys/class/power_supply");
        let found = measure(&class).unwrap();
        let names: Vec<_> = found.iter().map(|supply| supply.name.as_str()).collect();
        assert_eq!(names, ["AC", "BAT0", "hidpp_battery_0"]);
        let power = Power {
            mains: Some(false),
            battery_percent: Some(60),
            // 30 Wh at 10 W.
            seconds_left: Some(3 * 3_600),
        };
        assert_eq!(Power::of(&found), power);
        let refused = measure(&fixtures.join("here/sys/class/net")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn whether_mains_are_there_is_told_by_whoever_can() {
        let mains = |supplies: &[&str]| {
            let supplies: Vec<_> = supplies.iter().map(|text| supply(text)).collect();
            Power::of(&supplies).mains
        };
        let (on, off) = ("TYPE=Mains\nONLINE=1", "TYPE=USB\nONLINE=0");
        assert_eq!(mains(&[]), None);
        assert_eq!(mains(&[on, off]), Some(true));
        assert_eq!(mains(&[off]), Some(false));
        assert_eq!(mains(&["TYPE=Battery\nSTATUS=Discharging"]), Some(false));
        assert_eq!(mains(&["TYPE=Battery\nSTATUS=Full"]), Some(true));
        assert_eq!(mains(&["TYPE=Battery\nSTATUS=Unknown"]), None);
        // One that is full beside a charger says that mains are there, a mouse says nothing.
        assert_eq!(
            mains(&["TYPE=Battery\nSCOPE=Device\nSTATUS=Discharging"]),
            None
        );
    }

    #[test]
    fn how_long_a_battery_lasts_follows_from_what_it_tells() {
        let left = |text: &str| {
            supply(&format!("TYPE=Battery\nSTATUS=Discharging\n{text}")).seconds_left()
        };
        assert_eq!(left("TIME_TO_EMPTY_NOW=840"), Some(840));
        assert_eq!(left("ENERGY_NOW=1000000\nPOWER_NOW=2000000"), Some(1_800));
        assert_eq!(left("CHARGE_NOW=1000000\nCURRENT_NOW=-4000000"), Some(900));
        assert_eq!(left("CHARGE_NOW=1000000\nCURRENT_NOW=0"), None);
        assert_eq!(left("CHARGE_NOW=9223372036854775807\nCURRENT_NOW=1"), None);
        assert_eq!(left(""), None);
        assert_eq!(
            supply("TYPE=Battery\nSTATUS=Full\nTIME_TO_EMPTY_NOW=840").seconds_left(),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
        }

        #[test]
        fn any_keys_are_taken(text in "(POWER_SUPPLY_(NAME|STATUS|TYPE|ENERGY_NOW|POWER_NOW|CAPACITY)=(Discharging|Battery|-?[0-9]{0,20})\n){0,8}") {
            let supplies: Vec<_> = parse(text.as_bytes()).into_iter().collect();
            Power::of(&supplies);
        }
    }

    fn supply(text: &str) -> Supply {
        let keyed = text.lines().map(|line| format!("POWER_SUPPLY_{line}\n"));
        let text: String = std::iter::once("POWER_SUPPLY_NAME=x\n".to_owned())
            .chain(keyed)
            .collect();
        parse(text.as_bytes()).unwrap()
    }
}
