use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{page, schema, schema_text};
use crate::spec::AppSpec;
use crate::spec::parse::tests::EVERY_KEY;
use crate::spec::parse::{keys, parse};

const EXAMPLE: &str = include_str!("../../../../packaging/examples/shop.toml");
const SCHEMA: &str = include_str!("../../../../docs/schema/app.schema.json");
const PAGE: &str = include_str!("../../../../docs/app.md");

#[test]
fn the_files_are_as_the_types_say() {
    let command = |what, file| {
        format!("{file} is old: cargo run -p cutover-plan --example reference -- {what} >{file}")
    };
    assert!(
        SCHEMA == schema_text(),
        "{}",
        command("schema", "docs/schema/app.schema.json")
    );
    assert!(PAGE == page(), "{}", command("page", "docs/app.md"));
}

/// Every table of the schema by its path, as the reader names it.
fn tables(path: &str, schema: &Value, found: &mut BTreeMap<String, Value>) {
    for choice in schema
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        tables(path, choice, found);
    }
    if let Some(items) = schema.get("items") {
        tables(path, items, found);
    }
    let Some(keys) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    found.insert(path.to_owned(), schema.clone());
    for (name, key) in keys {
        tables(&join(path, name), key, found);
    }
}

fn all_tables() -> &'static BTreeMap<String, Value> {
    static TABLES: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        let mut found = BTreeMap::new();
        tables("", &schema(), &mut found);
        found
    });
    &TABLES
}

fn is_required(path: &str, name: &str) -> bool {
    let required = all_tables()[path].get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|one| one == name))
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

#[test]
fn every_table_has_the_keys_that_the_reader_asks_for() {
    let names = |schema: &Value| -> Vec<String> {
        let keys = schema["properties"].as_object().unwrap();
        keys.keys().cloned().collect()
    };
    let written: BTreeMap<String, Vec<String>> = all_tables()
        .iter()
        .map(|(path, schema)| (path.clone(), names(schema)))
        .collect();
    let read: BTreeMap<String, Vec<String>> = keys(EVERY_KEY)
        .iter()
        .map(|(path, keys)| {
            (
                path.to_string(),
                keys.iter().map(|k| k.to_string()).collect(),
            )
        })
        .collect();
    assert_eq!(written, read);
}

#[test]
fn every_table_refuses_what_it_does_not_know() {
    for (path, schema) in all_tables() {
        assert_eq!(schema["additionalProperties"], json!(false), "[{path}]");
    }
}

/// A file with the keys that the table at `path` must have, and these lines in it.
fn file(path: &str, lines: &str) -> String {
    let tables = all_tables();
    let required = |path: &str, schema: &Value| {
        let names = schema.get("required").and_then(Value::as_array);
        let mut text = String::new();
        for name in names.into_iter().flatten().filter_map(Value::as_str) {
            let example = &schema["properties"][name]["examples"][0];
            assert!(!example.is_null(), "[{path}] {name} has an example");
            text.push_str(&format!("{name} = {example}\n"));
        }
        text
    };
    let root = required("", &tables[""]);
    match path {
        "" => format!("{root}{lines}\n"),
        path => format!("{root}[{path}]\n{}{lines}\n", required(path, &tables[path])),
    }
}

fn spec(text: &str) -> AppSpec {
    parse("shop.toml", "shop", text).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:?}"))
}

/// The tables that have a heading of their own in a file, with their keys.
fn each_key(mut check: impl FnMut(&str, &str, &Value)) {
    for (path, schema) in all_tables() {
        let lists = ["canary.rules", "limits.ulimits", "notify"];
        if !lists.iter().any(|list| path.starts_with(list)) {
            for (name, key) in schema["properties"].as_object().unwrap() {
                check(path, name, key);
            }
        }
    }
}

#[test]
fn a_default_that_is_written_changes_nothing() {
    let mut count = 0;
    each_key(|path, name, key| {
        if let Some(default) = key.get("default") {
            let without = spec(&file(path, ""));
            let with = spec(&file(path, &format!("{name} = {default}")));
            assert_eq!(with, without, "[{path}] {name} = {default}");
            count += 1;
        }
    });
    assert!(count > 40, "{count}");
}

#[test]
fn a_key_without_default_is_optional_by_name() {
    let mut without = Vec::new();
    each_key(|path, name, key| {
        let is_table = key.get("properties").is_some() || key.get("additionalProperties").is_some();
        if !is_table && !is_required(path, name) && key.get("default").is_none() {
            without.push(join(path, name));
        }
    });
    let expected = [
        "command",
        "entrypoint",
        "env_file",
        "stop_signal",
        "user",
        "github.url",
        "health.command",
        "limits.cpus",
        "limits.memory",
        "limits.pids",
        "watch.extend_to",
        "watch.max_latency_p99",
    ];
    assert_eq!(without, expected);
}

#[test]
fn every_name_of_a_choice_is_taken() {
    let mut count = 0;
    each_key(|path, name, key| {
        let named = key
            .get("oneOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let named = named.map(|choice| &choice["const"]);
        let plain = key
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        for choice in named.chain(plain) {
            spec(&file(path, &format!("{name} = {choice}")));
            count += 1;
        }
    });
    assert!(count > 30, "{count}");
}

#[test]
fn every_example_is_taken() {
    each_key(|path, name, key| {
        for example in key
            .get("examples")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = match (is_required(path, name), example) {
                // It stands there already.
                (true, _) => file(path, ""),
                (false, Value::Object(map)) => {
                    let lines: Vec<String> = map
                        .iter()
                        .map(|(key, value)| format!("{key:?} = {value}"))
                        .collect();
                    file("", &format!("[{}]\n{}", join(path, name), lines.join("\n")))
                }
                (false, example) => file(path, &format!("{name} = {example}")),
            };
            spec(&text);
        }
    });
}

/// What the descriptions say of bounds: `From A to B` holds A and B, and no more.
#[test]
fn the_bounds_of_a_description_are_those_of_the_reader() {
    let mut count = 0;
    each_key(|path, name, key| {
        let text = key["description"].as_str().unwrap();
        let Some((_, bounds)) = text.split_once("From `") else {
            return;
        };
        let mut bounds = bounds.split('`');
        let (Some(least), Some(joint), Some(most)) = (bounds.next(), bounds.next(), bounds.next())
        else {
            return;
        };
        if !joint.contains("to") {
            return;
        }
        let read = |value: &str| parse("f", "shop", &file(path, &format!("{name} = {value:?}")));
        for (bound, beyond) in [(least, "0ms"), (most, "169h")] {
            // A bound that does not fit the other keys' defaults is told by another fault.
            let text = read(bound)
                .err()
                .map(|all| all[0].to_string())
                .unwrap_or_default();
            assert!(
                !text.contains("must be from"),
                "[{path}] {name} {bound}: {text}"
            );
            if bound != "0s" && !bound.ends_with('B') {
                let text = read(beyond).unwrap_err()[0].to_string();
                let bounds = format!("must be from {least} to {most}");
                assert!(text.contains(&bounds), "[{path}] {name}: {text}");
            }
        }
        count += 1;
    });
    assert!(count > 15, "{count}");
}

fn json_of(text: &str) -> Value {
    toml::from_str(text).unwrap()
}

fn check(file: &Value, valid: bool) {
    static VALIDATOR: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());
    let errors: Vec<String> = VALIDATOR.iter_errors(file).map(|e| e.to_string()).collect();
    assert_eq!(errors.is_empty(), valid, "{errors:?}\n{file}");
}

#[test]
fn good_files_are_good_by_the_schema() {
    check(&json_of(EXAMPLE), true);
    check(&json_of(EVERY_KEY), true);
    each_key(|path, _, _| {
        let text = file(path, "");
        spec(&text);
        check(&json_of(&text), true);
    });
}

/// Puts an unknown key into each table of `value`, one at a time.
fn with_unknown_keys(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            // Any name may stand in these two.
            if !["/env", "/labels"].contains(&path) {
                found.push((path.to_owned(), "unknown".to_owned()));
            }
            for (name, value) in map {
                with_unknown_keys(value, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                with_unknown_keys(item, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn an_unknown_key_is_none_by_the_schema() {
    for text in [EXAMPLE, EVERY_KEY] {
        let good = json_of(text);
        let mut places = Vec::new();
        with_unknown_keys(&good, "", &mut places);
        assert!(places.len() > 4, "{places:?}");
        for (path, key) in places {
            let mut bad = good.clone();
            bad.pointer_mut(&path).unwrap()[&key] = json!(1);
            check(&bad, false);
        }
    }
}

#[test]
fn what_the_schema_can_tell_it_tells() {
    for (path, value) in [
        ("/port", json!(0)),
        ("/port", json!("8080")),
        ("/strategy", json!("bluegreen")),
        ("/replicas", json!(101)),
        ("/stop_grace", json!("10")),
        ("/stop_signal", json!("SIGKILL")),
        ("/limits/memory", json!("512")),
        ("/limits/ulimits/nofile", json!("much")),
        ("/canary/weights", json!([101, 100])),
        ("/canary/rules/0", json!({ "header": "a" })),
        ("/canary/rules/0", json!({ "header": "a", "cookie": "b" })),
        ("/watch/max_error_rate", json!("0.01")),
        ("/hooks/on_failure/command", json!([])),
        ("/env", json!({ "A": 1 })),
    ] {
        let mut file = json_of(EVERY_KEY);
        *file.pointer_mut(path).unwrap() = value;
        check(&file, false);
    }
}
