//! Flipped bits in every file of a store: never a wrong value, never a refusal to start, never a wait without end.

use super::*;

/// Each costs a few openings of sled, or the deadline of the check where sled spins.
const FLIPS: usize = 70;
/// What the load leaves: rows of its own, and of the peer.
const ROWS: [u64; 2] = [900, 60 * 60];
/// What a start may take where every generation hangs its reader twice.
const START: Duration = Duration::from_secs(120);

#[test]
fn a_flipped_bit_in_any_file_costs_what_it_hit_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    for child in ["child_loads", "flips::child_flips"] {
        let ended = this_program(child, dir.path())
            .stdout(Stdio::null())
            .status();
        assert!(ended.unwrap().success(), "{child}");
    }
}

#[test]
#[ignore = "the process in which the test above flips bits"]
fn child_flips() {
    let Some(home) = given_dir() else { return };
    let files: Vec<(PathBuf, Vec<u8>)> = files_below(&home.join("store"))
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path.strip_prefix(&home).unwrap().to_owned(), bytes)
        })
        .collect();
    let whole = files.iter().filter(|(_, bytes)| !bytes.is_empty());
    let whole: Vec<usize> = whole.map(|(_, bytes)| bytes.len()).collect();
    assert!(
        whole.len() > 10,
        "{} files with something in them",
        whole.len()
    );
    let seed = 7;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let places = places(&files, &mut rng);
    let flips = places.len();
    let (mut aside, mut lost) = (0, 0);
    for (file, bit) in places {
        let place = TempDir::new_in(scratch()).unwrap();
        let mut files: states::Files = files
            .iter()
            .cloned()
            .map(|(path, bytes)| (path, Some(bytes)))
            .collect();
        let bytes = files.get_mut(&file).and_then(Option::as_mut).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        build_with_dirs(&files, &home, place.path());
        let what = format!("bit {bit} of {}", file.display());
        let (went, rows) = outcome(place.path(), &what);
        aside += went;
        let within = |name: &str| {
            file.iter()
                .any(|part| part.to_string_lossy().starts_with(name))
        };
        let (of_own, of_peer) = (within("spool") || within("gen-"), within("copies-"));
        for ((rows, all), hit) in rows.into_iter().zip(ROWS).zip([of_own, of_peer]) {
            assert!(rows == all || hit, "{what}: {rows} of {all} rows elsewhere");
            lost += all - rows;
        }
    }
    println!("{flips} flips: {aside} generations set aside, {lost} rows to be fetched again");
}

/// A bit of each file that has any, the others wherever a byte of the store lies.
fn places(files: &[(PathBuf, Vec<u8>)], rng: &mut ChaCha8Rng) -> Vec<(PathBuf, usize)> {
    let mut places: Vec<(PathBuf, usize)> = Vec::new();
    for (path, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        places.push((path.clone(), rng.random_range(0..bytes.len() * 8)));
    }
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    while places.len() < FLIPS {
        let mut at = rng.random_range(0..total);
        for (path, bytes) in files {
            if at < bytes.len() {
                places.push((path.clone(), at * 8 + rng.random_range(0..8)));
                break;
            }
            at -= bytes.len();
        }
    }
    places
}

/// Empty directories are part of a generation.
fn build_with_dirs(files: &states::Files, home: &Path, place: &Path) {
    for file in files_below(home) {
        let path = file.strip_prefix(home).unwrap();
        fs::create_dir_all(place.join(path).parent().unwrap()).unwrap();
    }
    build(files, place);
}

/// Opens, reads all, writes more: generations set aside, and rows found, own ones and the peer's.
fn outcome(place: &Path, what: &str) -> (usize, [u64; 2]) {
    let begun = Instant::now();
    let store = open_busy(place);
    assert!(
        begun.elapsed() < START,
        "{what}: started after {:?}",
        begun.elapsed()
    );
    let mut found = [0; 2];
    for (log, set) in store.held() {
        let rows = rows_of(&store, &log, set.last().unwrap());
        for (seq, row) in &rows {
            let right = if log.origin == ME {
                values(*seq)
            } else {
                noise(*seq)
            };
            assert_eq!(*row, right, "{what}: a wrong value at {seq} of {log:?}");
        }
        found[usize::from(log.origin != ME)] += rows.len() as u64;
    }
    let log = store.begin_epoch().unwrap();
    assert!(
        store.held_of(&ME).keys().all(|old| *old != log),
        "{what}: an epoch came twice"
    );
    let schema = define(&store, ME);
    (1..=60).for_each(|seq| drop(append_own(&store, schema, seq)));
    let aside = store.stats().quarantined.len();
    store.close().unwrap_or_else(|e| panic!("{what}: {e}"));
    (aside, found)
}
