//! What machine this is: kernel, distribution, name. Facts as labels, the value is always 1.
//!
//! Read once, by sysinfo, which knows where each distribution writes them.

use sysinfo::System;

use super::sheet::{Family, Sheet, Spec};

const UNAME: [Spec; 1] = [Spec::gauge("node_uname_info", "", 0)];
const OS: [Spec; 1] = [Spec::gauge("node_os_info", "", 0)];

#[derive(Debug)]
pub(super) struct Machine {
    facts: Facts,
    uname: Family<1>,
    os: Family<1>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    nodename: Option<String>,
    release: Option<String>,
    machine: String,
    os: Option<String>,
    os_version: Option<String>,
}

impl Facts {
    pub(super) fn of_this_machine() -> Self {
        Self {
            nodename: System::host_name().ok(),
            release: System::kernel_version().ok(),
            machine: System::cpu_arch(),
            os: System::name().ok(),
            os_version: System::os_version().ok(),
        }
    }
}

impl Machine {
    pub(super) fn new(facts: Facts) -> Self {
        Self {
            facts,
            uname: Family::new(UNAME),
            os: Family::new(OS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet) {
        let Facts {
            nodename,
            release,
            machine,
            os,
            os_version,
        } = &self.facts;
        let labels = [
            ("machine", machine.as_str()),
            ("nodename", nodename.as_deref().unwrap_or_default()),
            ("release", release.as_deref().unwrap_or_default()),
            ("sysname", "Linux"),
        ];
        if let Some([slot]) = self.uname.slots(sheet, "", &labels) {
            sheet.set(slot, 1);
        }
        let Some(os) = os else { return };
        let labels = [
            ("name", os.as_str()),
            ("version", os_version.as_deref().unwrap_or_default()),
        ];
        if let Some([slot]) = self.os.slots(sheet, "", &labels) {
            sheet.set(slot, 1);
        }
    }
}
