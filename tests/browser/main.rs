//! The page in a real Chromium, driven step by step against real nodes.
//!
//! `page.mjs` drives the browser and prints one JSON line a step; this file kills and starts the
//! nodes in between.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use outlast_tests::World;
use serde_json::{Value, json};

#[test]
fn chromium_sees_all_three_then_a_dead_ones_history_and_outlives_its_server() {
    let mut world = World::on_loopback(env!("CARGO_BIN_EXE_outlast-under-test"));
    world.found(&["a", "b", "c"]);
    world
        .node(0)
        .wait_alive(&["b", "c"], Duration::from_secs(20));
    // A little history, so that the charts have something to show.
    std::thread::sleep(Duration::from_secs(10));

    let dashboard = world.node(0).json(&["status"])["node"]["dashboard"][0].clone();
    let address = dashboard.as_str().expect("an address");
    let address = address
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let login = world.node(0).run(&["dashboard", "--print"]);
    let mut page = Page::open(login.trim());

    let overview = page.step("overview", json!({"names": ["a", "b", "c"]}));
    assert_eq!(overview["live"], 3, "{overview}");
    assert_eq!(overview["moved"], true, "values stood still: {overview}");
    let after_load = page.step("requests", json!({"seconds": 5}));
    assert_eq!(after_load["http_after_load"], 0, "{after_load}");
    assert_eq!(after_load["sockets"], 1, "{after_load}");
    assert!(
        after_load["first_load_bytes"].as_u64() < Some(100 * 1024),
        "{after_load}"
    );

    world.node_mut(2).kill();
    let down = page.step("down", json!({"name": "c"}));
    assert_eq!(down["state"], "down", "{down}");
    let dead = page.step("node", json!({"name": "c", "seconds": 5}));
    assert!(dead["charts"].as_u64() >= Some(5), "{dead}");
    assert!(
        dead["points"].as_u64() >= Some(5),
        "no history of the dead node: {dead}"
    );
    assert_eq!(
        dead["trailing_gap"], true,
        "the silence isn't drawn: {dead}"
    );

    world.node_mut(2).up();
    world
        .node(0)
        .wait_alive(&["b", "c"], Duration::from_secs(20));
    let back = page.step("gap", json!({"name": "c"}));
    assert_eq!(back["inner_gap"], true, "the gap was drawn over: {back}");

    world.node_mut(0).kill();
    let lost = page.step("lost", json!({}));
    assert!(
        lost["banner"]
            .as_str()
            .is_some_and(|text| text.contains("lost")),
        "{lost}"
    );
    world.node_mut(0).up_with(&["--dashboard", &address]);
    let healed = page.step("healed", json!({}));
    assert_eq!(healed["banner"], Value::Null, "{healed}");
    assert_eq!(healed["moved"], true, "{healed}");
    assert_eq!(healed["reloads"], 0, "{healed}");
    assert_eq!(healed["errors"], json!([]), "{healed}");
}

#[test]
fn a_link_opened_from_a_file_is_logged_in_at_once() {
    let mut world = World::on_loopback(env!("CARGO_BIN_EXE_outlast-under-test"));
    let node = world.add("a");
    world.node_mut(node).up();
    world.node(node).run(&["init", "--name", "a"]);
    let link = world.node(node).run(&["dashboard", "--print"]);
    let file = world.dir().join("link.html");
    let page = format!(
        "<meta http-equiv=refresh content=\"0;url={}\">",
        link.trim()
    );
    std::fs::write(&file, page).expect("write the page");
    let shown = Command::new("/usr/bin/chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-domain-reliability",
            "--disable-sync",
            "--no-first-run",
        ])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg("--virtual-time-budget=4000")
        .arg(format!(
            "--user-data-dir={}",
            world.dir().join("chromium").display()
        ))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("run chromium");
    let dom = String::from_utf8_lossy(&shown.stdout);
    assert!(dom.contains("id=\"app\""), "not logged in: {dom}");
}

/// The browser, one step at a time.
struct Page {
    driver: Child,
    steps: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Page {
    fn open(login: &str) -> Self {
        let mut driver = Command::new("node")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/page.mjs"))
            .arg(login)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/shots"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start node; `make test` installs what it needs");
        let steps = driver.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(driver.stdout.take().expect("stdout is piped"));
        Self {
            driver,
            steps,
            answers,
        }
    }

    fn step(&mut self, name: &str, arguments: Value) -> Value {
        let step = json!({"step": name, "with": arguments});
        writeln!(self.steps, "{step}").expect("the browser is there");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the browser answers");
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("step {name}: {e}: {line:?}"));
        assert!(answer["failed"].is_null(), "step {name}: {answer}");
        answer
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
