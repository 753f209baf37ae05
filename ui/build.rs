//! Builds the page into `dist`, once for each state of its sources.
//!
//! In: the sources of `ui/`, npm, and the registry for the first `npm ci`. Out: `dist`, with the hash
//! of its sources beside the files; a build whose sources have that hash starts nothing and needs
//! neither npm nor a network. A lock on the directory makes cargo builds that run at once take turns,
//! whatever their target directories.
//! Invariant: `dist` appears whole or not at all; it is built elsewhere and renamed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

/// What the page is built from. Directories count with everything in them.
const SOURCES: [&str; 6] = [
    "index.html",
    "package-lock.json",
    "package.json",
    "src",
    "tsconfig.json",
    "vite.config.ts",
];
const DIST: &str = "dist";
/// Names the sources `dist` was built from. No page asks for it: its kind of file isn't served.
const STAMP: &str = "dist/source.hash";
/// Names the lock file `node_modules` was installed from.
const INSTALLED: &str = "node_modules/.installed.hash";
/// Where the new page grows, on the file system of `dist`.
const FRESH: &str = "node_modules/.dist";
const NEEDS: &str = "the dashboard page needs Node >= 20.19 and npm to be built: \
    install them (Debian: apt-get install nodejs npm) and build again";

fn main() {
    for path in SOURCES.iter().chain([&STAMP]) {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Err(why) = build() {
        for line in why.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), String> {
    let lock = File::open(".").map_err(|e| format!("open ui/: {e}"))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|e| format!("lock ui/: {e}"))?;
    let hash = hash(&SOURCES).map_err(|e| format!("read the sources of the page: {e}"))?;
    if is(STAMP, &hash) {
        return Ok(());
    }
    install()?;
    run("npm", &["run", "build", "--", "--outDir", FRESH])?;
    replace(&hash).map_err(|e| format!("move the built page to ui/dist: {e}"))
}

/// Brings `node_modules` to the state of the lock file.
fn install() -> Result<(), String> {
    let hash = hash(&["package-lock.json"]).map_err(|e| format!("read package-lock.json: {e}"))?;
    if is(INSTALLED, &hash) {
        return Ok(());
    }
    run(
        "npm",
        &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    )?;
    fs::write(INSTALLED, hash).map_err(|e| format!("write {INSTALLED}: {e}"))
}

/// Runs quietly; what it said is worth reading only when it failed.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(NEEDS.to_owned()),
        Err(e) => return Err(format!("start {program}: {e}")),
    };
    if output.status.success() {
        return Ok(());
    }
    let mut why = format!("{program} {} failed; {NEEDS}\n", arguments.join(" "));
    why.push_str(&String::from_utf8_lossy(&output.stdout));
    why.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(why)
}

fn replace(hash: &str) -> io::Result<()> {
    let fresh = Path::new(FRESH);
    let stamp = fresh.join("source.hash");
    fs::write(&stamp, hash)?;
    // Cargo runs this script again when a watched file is younger than its last run; what the
    // script itself wrote must look older.
    File::options()
        .write(true)
        .open(&stamp)?
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))?;
    match fs::remove_dir_all(DIST) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::rename(fresh, DIST)
}

fn is(stamp: &str, hash: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|found| found == hash)
}

/// One hash over names and contents, tests left out: they change no page.
fn hash(sources: &[&str]) -> io::Result<String> {
    let mut files = Vec::new();
    for source in sources {
        collect(Path::new(source), &mut files)?;
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = fs::read(&file)?;
        let mut name = String::new();
        write!(name, "{}\0{}\0", file.display(), bytes.len()).expect("a string takes any text");
        hasher.update(name.as_bytes()).update(&bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if !path.to_string_lossy().ends_with(".test.ts") {
        files.push(path.to_owned());
    }
    Ok(())
}
