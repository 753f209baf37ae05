//! What installing and uninstalling mean on this machine, as steps.
//!
//! In: a look at the machine. Out: the steps that are left to do, in order.
//! Invariant: the plan is a function of what was seen; planning changes nothing.
//! Absent: doing a step (`step.rs`), and systemd's own work. Its unit makes the directories.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::step::{Step, systemctl_says};
use crate::service::account::{Account, Group};
use crate::service::{ACCOUNT, CONFIG_DIR, OWN_UNIT, RUN_DIR, STATE_DIR, UNIT, packaged_unit};

/// The unit as the Debian package brings it.
const TEMPLATE: &str = include_str!("../../../../deploy/systemd/outlast.service");

/// The program's place in that unit.
const PACKAGED_PROGRAM: &str = "/usr/bin/outlast";

/// Where a program goes that lies where a service can't run it from, such as a home directory.
const COPIED_PROGRAM: &str = "/usr/local/bin/outlast";

/// Stands in a unit whose program we copied there: nobody else's goes with the unit.
const COPY_MARK: &str = "# The program is a copy that `outlast service install` made; `outlast service uninstall` removes it.\n";

/// What matters of this machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// systemd runs here.
    pub(super) systemd: bool,
    /// The unit came with a package.
    pub(super) packaged: bool,
    /// The service's user exists.
    user: bool,
    /// The service's group, which outlives its user where others are in it.
    group: Option<Group>,
    /// The state directory exists and isn't the user's.
    foreign_state: bool,
    /// A mesh was founded or joined in it.
    pub(super) is_member: bool,
    /// This program.
    program: PathBuf,
    /// Nobody but root can change it or swap it, and any user may run it.
    program_is_safe: bool,
    /// The copy that an earlier installation made is this very program.
    copy_is_fresh: bool,
    /// The unit we wrote, as it stands.
    own_unit: Option<String>,
    enabled: bool,
    active: bool,
}

impl Machine {
    pub(super) fn look() -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(PACKAGED_PROGRAM));
        let state = Path::new(STATE_DIR);
        let user = Account::named(ACCOUNT);
        let owner = Account::owning(state).ok();
        let systemd = sd_notify::booted().unwrap_or(false);
        Self {
            systemd,
            packaged: packaged_unit().is_some(),
            foreign_state: owner.is_some() && owner != user,
            user: user.is_some(),
            group: Group::named(ACCOUNT),
            is_member: state.join("statements.log").exists(),
            program_is_safe: is_safe(&program),
            copy_is_fresh: same_content(&program, Path::new(COPIED_PROGRAM)),
            program,
            own_unit: std::fs::read_to_string(OWN_UNIT).ok(),
            enabled: systemd && systemctl_says("is-enabled"),
            active: systemd && systemctl_says("is-active"),
        }
    }
}

/// Whether root alone decides what is run at this path, everybody may run it, and a unit can name it as it is. Home
/// directories don't count, whoever owns them: they come and go.
fn is_safe(program: &Path) -> bool {
    let at_home = ["/root", "/home", "/tmp", "/var/tmp"];
    let lasts = !at_home.iter().any(|place| program.starts_with(place));
    lasts
        && is_plain(program)
        && program.ancestors().all(|path| {
            path.symlink_metadata().is_ok_and(|found| {
                found.uid() == 0 && found.mode() & 0o022 == 0 && found.mode() & 0o001 != 0
            })
        })
}

/// Whether a unit takes the path as it is: there a space ends a word, and a percent sign or a dollar stands for
/// something else.
fn is_plain(program: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    program.as_os_str().as_bytes().iter().all(plain)
}

fn same_content(one: &Path, other: &Path) -> bool {
    let hash = |path: &Path| -> std::io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
        Ok(hasher.finalize())
    };
    let size = |path: &Path| path.metadata().map(|found| found.len()).ok();
    one == other
        || (size(one) == size(other)
            && hash(one).is_ok_and(|one| hash(other).is_ok_and(|other| one == other)))
}

/// What is left to do until the service runs.
pub(super) fn install(machine: &Machine) -> Vec<Step> {
    let mut steps = Vec::new();
    if !machine.packaged {
        let program = if machine.program_is_safe {
            machine.program.clone()
        } else {
            PathBuf::from(COPIED_PROGRAM)
        };
        if !machine.program_is_safe && !machine.copy_is_fresh {
            steps.push(Step::Copy {
                from: machine.program.clone(),
                to: program.clone(),
            });
        }
        let was_copied = machine
            .own_unit
            .as_ref()
            .is_some_and(|unit| is_of_a_copy(unit));
        let is_copy = !machine.program_is_safe
            || (was_copied && program.as_path() == Path::new(COPIED_PROGRAM));
        let content = unit_for(&program, is_copy);
        if machine.own_unit.as_ref() != Some(&content) {
            steps.push(Step::Write {
                path: PathBuf::from(OWN_UNIT),
                content,
            });
        }
    }
    let changed = !steps.is_empty();
    if !machine.user {
        let group: &[_] = match machine.group {
            Some(_) => &["--gid", ACCOUNT],
            None => &["--user-group"],
        };
        let mut useradd = vec!["useradd", "--system"];
        useradd.extend(group);
        useradd.extend([
            "--home-dir",
            STATE_DIR,
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            ACCOUNT,
        ]);
        steps.push(Step::Run(useradd));
    }
    if machine.foreign_state {
        steps.push(Step::HandOver(PathBuf::from(STATE_DIR)));
    }
    if changed {
        steps.push(Step::Run(vec!["systemctl", "daemon-reload"]));
    }
    if !machine.enabled {
        steps.push(Step::Run(vec!["systemctl", "enable", UNIT]));
    }
    if changed || !machine.active || machine.foreign_state {
        steps.push(Step::Run(vec!["systemctl", "restart", UNIT]));
    }
    steps
}

/// What is left to do until the service is gone; with `purge`, and all that it kept.
pub(super) fn uninstall(machine: &Machine, purge: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if machine.enabled || machine.active {
        steps.push(Step::Run(vec!["systemctl", "disable", "--now", UNIT]));
    }
    if let Some(unit) = &machine.own_unit {
        steps.push(Step::Remove(PathBuf::from(OWN_UNIT)));
        if is_of_a_copy(unit) {
            steps.push(Step::Remove(PathBuf::from(COPIED_PROGRAM)));
        }
        steps.push(Step::Run(vec!["systemctl", "daemon-reload"]));
    }
    if purge {
        let kept = [STATE_DIR, CONFIG_DIR, RUN_DIR].map(PathBuf::from);
        steps.extend(kept.into_iter().map(Step::Remove));
        if machine.user && !machine.packaged {
            steps.push(Step::Run(vec!["userdel", ACCOUNT]));
        }
        // `userdel` takes the group along, unless others are in it.
        let is_left = |group: Group| group.is_shared || !machine.user;
        if !machine.packaged && machine.group.is_some_and(is_left) {
            steps.push(Step::Run(vec!["groupdel", ACCOUNT]));
        }
    }
    steps
}

fn unit_for(program: &Path, is_copy: bool) -> String {
    let unit = TEMPLATE.replace(PACKAGED_PROGRAM, &program.to_string_lossy());
    if is_copy {
        COPY_MARK.to_owned() + &unit
    } else {
        unit
    }
}

fn is_of_a_copy(unit: &str) -> bool {
    unit.starts_with(COPY_MARK) && unit.contains(COPIED_PROGRAM)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn bare() -> Machine {
        Machine {
            systemd: true,
            packaged: false,
            user: false,
            group: None,
            foreign_state: false,
            is_member: false,
            program: PathBuf::from("/home/ann/outlast"),
            program_is_safe: false,
            copy_is_fresh: false,
            own_unit: None,
            enabled: false,
            active: false,
        }
    }

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn a_bare_machine_gets_program_unit_user_and_a_start() {
        let machine = Machine {
            foreign_state: true,
            ..bare()
        };
        assert_eq!(
            lines(&install(&machine)),
            [
                "copy /home/ann/outlast to /usr/local/bin/outlast",
                "write /etc/systemd/system/outlast.service",
                "run useradd --system --user-group --home-dir /var/lib/outlast --no-create-home --shell /usr/sbin/nologin outlast",
                "give /var/lib/outlast to user outlast",
                "run systemctl daemon-reload",
                "run systemctl enable outlast.service",
                "run systemctl restart outlast.service",
            ]
        );
    }

    #[test]
    fn an_installed_machine_has_nothing_left_to_do() {
        let machine = Machine {
            user: true,
            copy_is_fresh: true,
            own_unit: Some(unit_for(Path::new(COPIED_PROGRAM), true)),
            enabled: true,
            active: true,
            ..bare()
        };
        assert_eq!(install(&machine), []);
        let fresh_program = Machine {
            copy_is_fresh: false,
            ..machine
        };
        assert_eq!(
            lines(&install(&fresh_program)),
            [
                "copy /home/ann/outlast to /usr/local/bin/outlast",
                "run systemctl daemon-reload",
                "run systemctl restart outlast.service",
            ]
        );
    }

    #[test]
    fn a_packages_files_are_left_alone() {
        let machine = Machine {
            packaged: true,
            user: true,
            ..bare()
        };
        assert_eq!(
            lines(&install(&machine)),
            [
                "run systemctl enable outlast.service",
                "run systemctl restart outlast.service"
            ]
        );
        let running = Machine {
            enabled: true,
            active: true,
            ..machine
        };
        assert_eq!(
            lines(&uninstall(&running, true)),
            [
                "run systemctl disable --now outlast.service",
                "remove /var/lib/outlast",
                "remove /etc/outlast",
                "remove /run/outlast",
            ]
        );
    }

    #[test]
    fn the_copy_goes_with_the_unit_that_ran_it() {
        let machine = Machine {
            user: true,
            own_unit: Some(unit_for(Path::new(COPIED_PROGRAM), true)),
            active: true,
            ..bare()
        };
        assert_eq!(
            lines(&uninstall(&machine, false)),
            [
                "run systemctl disable --now outlast.service",
                "remove /etc/systemd/system/outlast.service",
                "remove /usr/local/bin/outlast",
                "run systemctl daemon-reload",
            ]
        );
        let of_system = Machine {
            own_unit: Some(unit_for(Path::new("/opt/outlast/bin/outlast"), false)),
            ..machine
        };
        let steps = lines(&uninstall(&of_system, true));
        assert!(!steps.iter().any(|step| step.contains("/opt")), "{steps:?}");
        assert_eq!(steps.last().unwrap(), "run userdel outlast");
    }

    #[test]
    fn a_program_that_its_owner_put_there_stays_when_the_service_goes() {
        let owners = Machine {
            program: PathBuf::from(COPIED_PROGRAM),
            program_is_safe: true,
            copy_is_fresh: true,
            user: true,
            ..bare()
        };
        let write = |steps: &[Step]| {
            let mut steps = steps.iter();
            steps.find_map(|step| match step {
                Step::Write { content, .. } => Some(content.clone()),
                _ => None,
            })
        };
        let unit = write(&install(&owners)).unwrap();
        let installed = Machine {
            own_unit: Some(unit),
            ..owners.clone()
        };
        let left = lines(&uninstall(&installed, true));
        assert!(
            !left.iter().any(|step| step.contains(COPIED_PROGRAM)),
            "{left:?}"
        );
        // A copy of ours stays ours when it is what installs itself again.
        let copied = Machine {
            own_unit: Some(unit_for(Path::new(COPIED_PROGRAM), true)),
            ..owners
        };
        assert_eq!(write(&install(&copied)), None);
        let left = lines(&uninstall(&copied, false));
        assert!(left.contains(&format!("remove {COPIED_PROGRAM}")));
    }

    #[test]
    fn a_group_that_others_are_in_is_used_again_and_goes_with_a_purge() {
        let left_over = Machine {
            group: Some(Group { is_shared: true }),
            ..bare()
        };
        let steps = lines(&install(&left_over));
        let useradd = steps.iter().find(|step| step.contains("useradd")).unwrap();
        assert!(useradd.contains("--gid outlast") && !useradd.contains("--user-group"));

        let last_two = |user, is_shared| {
            let machine = Machine {
                user,
                group: Some(Group { is_shared }),
                ..bare()
            };
            let steps = lines(&uninstall(&machine, true));
            steps[steps.len() - 2..].to_vec()
        };
        assert_eq!(
            last_two(true, true),
            ["run userdel outlast", "run groupdel outlast"]
        );
        assert_eq!(
            last_two(true, false),
            ["remove /run/outlast", "run userdel outlast"]
        );
        assert_eq!(
            last_two(false, true),
            ["remove /run/outlast", "run groupdel outlast"]
        );
    }

    #[test]
    fn the_unit_names_the_program_wherever_it_runs_one() {
        let unit = unit_for(Path::new("/opt/outlast"), false);
        assert!(!unit.contains(PACKAGED_PROGRAM));
        assert!(unit.contains("ExecStart=/opt/outlast up"));
        assert!(unit.contains("ExecPaths=/opt/outlast "));
    }

    #[test]
    fn a_program_that_a_unit_would_read_otherwise_is_not_run_in_place() {
        assert!(is_plain(Path::new("/opt/outlast-1.2+x/bin/outlast")));
        for odd in [
            "/opt/my tools/outlast",
            "/opt/100%/outlast",
            "/opt/$x/outlast",
        ] {
            assert!(!is_plain(Path::new(odd)), "{odd}");
        }
    }

    #[test]
    fn a_program_in_a_home_or_in_anybodys_hands_is_not_run_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let anybodys = dir.path().join("outlast");
        std::fs::write(&anybodys, "").unwrap();
        std::fs::set_permissions(&anybodys, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_safe(&anybodys));
        assert!(!is_safe(Path::new("/home/ann/outlast")));
        assert!(is_safe(Path::new("/usr/bin/env")));
        assert!(!is_safe(Path::new("/nowhere/outlast")));
    }
}
