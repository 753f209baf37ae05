//! Temperatures, fans, and how fast each core runs.
//!
//! Reads `/sys/class/hwmon`, `/sys/class/thermal` and `/sys/devices/system/cpu`. A sensor sits behind a slow bus and may not
//! answer, and older kernels wait 20 ms for a core's frequency: all is measured aside. One that can't be read is absent.
//! Chips are named as node_exporter names them. Bounds: `MAX_ENTRIES` of a directory, `MAX_SENSORS` of a machine.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::kept::{Buffer, read_once};
use super::scan::{number, signed};
use super::sheet::{Family, Sheet, Spec};

/// How often sensors are measured.
const PERIOD: Duration = Duration::from_secs(10);

/// The most entries of one directory that are looked at.
const MAX_ENTRIES: usize = 1_024;

/// The most sensors of one kind.
const MAX_SENSORS: usize = 256;

const CHIP: [Spec; 1] = [Spec::gauge("node_hwmon_chip_names", "", 0)];
const LABEL: [Spec; 1] = [Spec::gauge("node_hwmon_sensor_label", "", 0)];

const TEMPERATURE: [Spec; 3] = [
    Spec::gauge("node_hwmon_temp_celsius", "celsius", -3),
    Spec::gauge("node_hwmon_temp_max_celsius", "celsius", -3),
    Spec::gauge("node_hwmon_temp_crit_celsius", "celsius", -3),
];

const FAN: [Spec; 1] = [Spec::gauge("node_hwmon_fan_rpm", "", 0)];
const ZONE: [Spec; 1] = [Spec::gauge("node_thermal_zone_temp", "celsius", -3)];

const CORE: [Spec; 2] = [
    Spec::gauge("node_cpu_scaling_frequency_hertz", "hertz", 0),
    Spec::gauge("node_cpu_scaling_frequency_max_hertz", "hertz", 0),
];

#[derive(Debug)]
pub(super) struct Sensors {
    measured: Aside<Found>,
    chip: Family<1>,
    label: Family<1>,
    temperature: Family<3>,
    fan: Family<1>,
    zone: Family<1>,
    core: Family<2>,
}

/// What one measurement found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Name of each chip's place, and what it calls itself.
    chips: Vec<(String, String)>,
    temperatures: Vec<Sensor<3>>,
    fans: Vec<Sensor<1>>,
    /// Number and type of each zone, and thousandths of a degree.
    zones: Vec<(String, String, i64)>,
    /// Number of each core, what it runs at and what it may, in hertz.
    cores: Vec<(String, [Option<i64>; 2])>,
}

/// One sensor of a chip. `values`: in thousandths of a degree, or turns a minute.
#[derive(Debug, PartialEq, Eq)]
struct Sensor<const N: usize> {
    chip: String,
    name: String,
    label: Option<String>,
    values: [Option<i64>; N],
}

impl Sensors {
    pub(super) fn new(root: &Path) -> Self {
        let sys = root.join("sys");
        Self {
            measured: Aside::each("sensors", PERIOD, move || measure(&sys)),
            chip: Family::new(CHIP),
            label: Family::new(LABEL),
            temperature: Family::new(TEMPERATURE),
            fan: Family::new(FAN),
            zone: Family::new(ZONE),
            core: Family::new(CORE),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let Some(found) = self.measured.latest(buffer, now) else {
            return;
        };
        for (chip, name) in &found.chips {
            let labels = [("chip", chip.as_str()), ("chip_name", name)];
            if let Some(slots) = self.chip.slots(sheet, chip, &labels) {
                sheet.set_all(slots, [Some(1)]);
            }
        }
        for sensor in &found.temperatures {
            sensor.set(sheet, &mut self.temperature, &mut self.label);
        }
        for sensor in &found.fans {
            sensor.set(sheet, &mut self.fan, &mut self.label);
        }
        for (zone, kind, value) in &found.zones {
            let labels = [("type", kind.as_str()), ("zone", zone)];
            if let Some(slots) = self.zone.slots(sheet, zone, &labels) {
                sheet.set_all(slots, [Some(*value)]);
            }
        }
        for (core, values) in &found.cores {
            if let Some(slots) = self.core.slots(sheet, core, &[("cpu", core)]) {
                sheet.set_all(slots, *values);
            }
        }
    }
}

impl<const N: usize> Sensor<N> {
    fn set(&self, sheet: &mut Sheet, family: &mut Family<N>, named: &mut Family<1>) {
        let key = format!("{}\n{}", self.chip, self.name);
        let labels = [("chip", self.chip.as_str()), ("sensor", &self.name)];
        if let Some(slots) = family.slots(sheet, &key, &labels) {
            sheet.set_all(slots, self.values);
        }
        let Some(label) = &self.label else { return };
        let labels = [labels[0], ("label", label), labels[1]];
        if let Some(slots) = named.slots(sheet, &key, &labels) {
            sheet.set_all(slots, [Some(1)]);
        }
    }
}

fn measure(sys: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in entries(&sys.join("class/hwmon"), "hwmon") {
        measure_chip(&sys.join("class/hwmon").join(&entry), &entry, &mut found);
    }
    for entry in entries(&sys.join("class/thermal"), "thermal_zone") {
        let dir = sys.join("class/thermal").join(&entry);
        let zone = entry.trim_start_matches("thermal_zone").to_owned();
        if let (Some(kind), Some(value)) = (text(&dir, "type"), integer(&dir, "temp")) {
            found.zones.push((zone, kind, value));
        }
    }
    for entry in entries(&sys.join("devices/system/cpu"), "cpu") {
        let dir = sys.join("devices/system/cpu").join(&entry).join("cpufreq");
        let hertz = |file| integer(&dir, file).and_then(|value| value.checked_mul(1_000));
        let values = ["scaling_cur_freq", "scaling_max_freq"].map(hertz);
        if values.iter().any(Option::is_some) {
            let core = entry.trim_start_matches("cpu").to_owned();
            found.cores.push((core, values));
        }
    }
    if found == Found::default() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(found)
}

fn measure_chip(dir: &Path, entry: &str, found: &mut Found) {
    let own = text(dir, "name");
    let place = std::fs::canonicalize(dir.join("device")).ok();
    let chip = place.and_then(|place| chip_name(&place));
    let chip = chip
        .or_else(|| own.as_deref().map(cleaned))
        .unwrap_or_else(|| entry.to_owned());
    // Some drivers keep their files one directory deeper.
    for dir in [dir.to_owned(), dir.join("device")] {
        for file in entries(&dir, "") {
            let Some(name) = file.strip_suffix("_input") else {
                continue;
            };
            let value = |kind: &str| integer(&dir, &format!("{name}_{kind}"));
            let label = text(&dir, &format!("{name}_label"));
            let (chip, name) = (chip.clone(), name.to_owned());
            if name.starts_with("temp") && found.temperatures.len() < MAX_SENSORS {
                let values = ["input", "max", "crit"].map(value);
                let sensor = Sensor {
                    chip,
                    name,
                    label,
                    values,
                };
                push_new(&mut found.temperatures, sensor);
            } else if name.starts_with("fan") && found.fans.len() < MAX_SENSORS {
                let values = [value("input")];
                let sensor = Sensor {
                    chip,
                    name,
                    label,
                    values,
                };
                push_new(&mut found.fans, sensor);
            }
        }
    }
    if let Some(own) = own {
        found.chips.push((chip, own));
    }
}

/// A link back to the chip itself shows each sensor twice.
fn push_new<const N: usize>(all: &mut Vec<Sensor<N>>, sensor: Sensor<N>) {
    let same = |known: &Sensor<N>| known.chip == sensor.chip && known.name == sensor.name;
    if !all.iter().any(same) {
        all.push(sensor);
    }
}

/// After the last two directories of a device's place, which differ for chips of one kind.
fn chip_name(place: &Path) -> Option<String> {
    let device = cleaned(place.file_name()?.to_str()?);
    let bus = cleaned(place.parent()?.file_name()?.to_str()?);
    let both = !device.is_empty() && !bus.is_empty();
    both.then(|| format!("{bus}_{device}"))
}

fn cleaned(name: &str) -> String {
    let plain = |letter: char| {
        let kept = letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == ':';
        if kept { letter } else { '_' }
    };
    let all: String = name.to_ascii_lowercase().chars().map(plain).collect();
    all.trim_matches('_').to_owned()
}

/// The names in a directory that are `prefix` and, where there is one, a number behind it; sorted.
fn entries(dir: &Path, prefix: &str) -> Vec<String> {
    let Ok(listed) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = listed
        .take(MAX_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names
        .filter(|name| {
            let rest = name.strip_prefix(prefix);
            rest.is_some_and(|rest| prefix.is_empty() || number(rest.as_bytes()).is_some())
        })
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

fn text(dir: &Path, file: &str) -> Option<String> {
    let bytes = read_once(&dir.join(file)).ok()?;
    let text = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
    (!text.is_empty()).then_some(text)
}

fn integer(dir: &Path, file: &str) -> Option<i64> {
    signed(read_once(&dir.join(file)).ok()?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_recorded_board_is_measured() {
        let found = measure(&fixture("linux-5.10-pi")).unwrap();
        let wanted = Sensor {
            chip: "cpu_thermal".to_owned(),
            name: "temp1".to_owned(),
            label: None,
            values: [Some(48_312), None, Some(110_000)],
        };
        assert_eq!(found.temperatures, [wanted]);
        assert_eq!(found.fans, []);
        let zone = ("0".to_owned(), "cpu-thermal".to_owned(), 47_900);
        assert_eq!(found.zones, [zone]);
        let cores: Vec<_> = found.cores.iter().map(|(core, _)| core.as_str()).collect();
        assert_eq!(cores, ["0", "1"]);
        assert_eq!(found.cores[1].1, [Some(600_000_000), Some(1_500_000_000)]);
    }

    #[test]
    fn sensors_without_an_answer_and_below_freezing_are_told_as_they_are() {
        let found = measure(&fixture("linux-6.12-laptop")).unwrap();
        let temperatures: Vec<_> = found
            .temperatures
            .iter()
            .map(|one| (one.name.as_str(), one.label.as_deref(), one.values[0]))
            .collect();
        let wanted = [
            ("temp1", Some("Package id 0"), Some(61_000)),
            ("temp2", Some("Core 0"), None),
            ("temp1", None, Some(-5_250)),
        ];
        assert_eq!(temperatures, wanted);
        assert_eq!(
            (found.fans[0].name.as_str(), found.fans[0].values),
            ("fan1", [Some(2_800)])
        );
        assert_eq!(found.zones, []);
    }

    #[test]
    fn a_machine_without_sensors_lacks_them() {
        let refused = measure(&fixture("linux-3.10-server")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn chips_are_named_for_where_they_are() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("devices/platform/Coretemp.0");
        let chip = device.join("hwmon/hwmon3");
        fs::create_dir_all(&chip).unwrap();
        fs::write(chip.join("name"), "coretemp\n").unwrap();
        fs::write(chip.join("temp1_input"), "41000\n").unwrap();
        symlink(&device, chip.join("device")).unwrap();
        fs::create_dir_all(root.path().join("class/hwmon")).unwrap();
        symlink(&chip, root.path().join("class/hwmon/hwmon3")).unwrap();

        let found = measure(root.path()).unwrap();

        let chip = "platform_coretemp_0".to_owned();
        assert_eq!(found.chips, [(chip.clone(), "coretemp".to_owned())]);
        assert_eq!(found.temperatures[0].chip, chip);
        assert_eq!(cleaned("0000:01:00.0"), "0000:01:00_0");
        assert_eq!(cleaned("_.-"), "");
    }

    fn fixture(tree: &str) -> std::path::PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        fixtures.join(tree).join("sys")
    }
}
