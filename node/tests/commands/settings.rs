//! What is set for the mesh and for nodes, on a state directory that no node runs on.

use serde_json::{Value, json};

use crate::home::{Home, admin_keys, err, out};

fn founded() -> Home {
    let home = Home::new();
    home.ok("a", &["init", "--name", "attic"], "");
    home
}

fn get(home: &Home) -> Value {
    serde_json::from_str(&home.ok("a", &["get", "--json"], "")).expect("JSON")
}

#[test]
fn a_setting_is_there_once_it_is_made_and_gone_once_it_is_taken_back() {
    let home = founded();
    let set = home.run("a", &["set", "retention=4GiB", "site=home"], "");
    assert_eq!(
        out(&set),
        "every node: retention=4GiB\nevery node: site=home\n"
    );
    assert_eq!(
        err(&set),
        "no node runs here: the others hear of it once `outlast up` does\n"
    );
    assert_eq!(
        home.ok("a", &["set", "attic", "site=cellar"], ""),
        "attic: site=cellar\n"
    );
    assert_eq!(
        home.ok("a", &["set", "attic", "site=roof"], ""),
        "attic: site=roof, was cellar\n"
    );
    let said = get(&home);
    assert_eq!(
        said["mesh"],
        json!({ "site": "home", "metered": null, "may_be_off": null, "retention_bytes": 4_u64 << 30 })
    );
    let attic = &said["nodes"][0];
    assert_eq!(
        (&attic["name"], &attic["site"], &attic["metered"]),
        (&json!("attic"), &json!("roof"), &json!(false))
    );
    assert_eq!(
        attic["from"],
        json!({ "site": "node", "retention_bytes": "mesh" })
    );
    let here = &said["here"];
    assert_eq!(
        (&here["limit_bytes"], &here["limit_from"]),
        (&json!(4_u64 << 30), &json!("setting"))
    );
    assert_eq!(
        home.ok("a", &["get"], ""),
        "NODE          SITE  METERED  MAY-BE-OFF  RETENTION\n\
         (every node)  home  -        -           4.0 GiB\n\
         attic         roof  -        -           (4.0 GiB)\n"
    );
    assert_eq!(
        home.ok("a", &["get", "attic"], ""),
        "site        roof         set for this node\n\
         metered     off          not set\n\
         may-be-off  off          not set\n\
         retention   4.0 GiB      set for every node\n"
    );

    assert_eq!(
        home.ok("a", &["set", "attic", "site="], ""),
        "attic: site taken back\n"
    );
    assert_eq!(
        home.ok("a", &["set", "attic", "site="], ""),
        "attic: site was not set\n"
    );
    let attic = &get(&home)["nodes"][0];
    assert_eq!(
        (&attic["site"], &attic["from"]["site"]),
        (&json!("home"), &json!("mesh"))
    );
}

#[test]
fn a_machines_own_configuration_goes_before_the_meshs_retention_and_get_says_so() {
    let home = founded();
    home.ok("a", &["set", "retention=1GiB"], "");
    let config = home.path().join("own.toml");
    std::fs::write(&config, "[store]\nlimit_bytes = 134217728\n").expect("write it");
    let config = config.to_str().expect("a plain path");
    let told = home.run("a", &["--config", config, "get"], "");
    assert_eq!(
        err(&told),
        "on attic store.limit_bytes of its configuration goes before retention: 128.0 MiB and not 1.0 GiB\n"
    );
}

#[test]
fn without_the_admin_key_nothing_is_set_and_the_way_to_it_is_told() {
    let home = founded();
    for key in admin_keys(&home) {
        std::fs::remove_file(key).expect("lose the key");
    }
    let (code, said) = home.fails("a", &["set", "site=home"], "");
    assert_eq!(code, 1);
    assert!(
        said.starts_with("outlast: no admin key of mesh home at "),
        "{said}"
    );
    assert!(
        said.ends_with("it was made where `outlast init` ran, by that user: run this there\n"),
        "{said}"
    );
    assert!(get(&home)["mesh"]["site"].is_null());
}
