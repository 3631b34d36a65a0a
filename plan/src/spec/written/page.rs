//! The reference of an app's file, made from its schema.

use std::fmt::Write as _;

use serde_json::Value;

const HEAD: &str = "\
# An app's file

`/etc/cutover/apps/NAME.toml` describes the app `NAME`. [packaging/examples/shop.toml](../packaging/examples/shop.toml)
is one to begin with. A key that is not on this page is a mistake; all mistakes of a file are told at once, with their
places. [docs/schema/app.schema.json](schema/app.schema.json) lets an editor complete and check the file: put
`#:schema` and the path or address of that file into the first line.

This page is made from `plan/src/spec/written.rs`; `cargo run -p cutover-plan --example reference -- page >docs/app.md`
makes it again.
";

/// The page: the keys above the first table, then each table.
pub(super) fn render(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "", "Above the first table", schema);
    page
}

fn section(page: &mut String, path: &str, title: &str, schema: &Value) {
    let (tables, keys): (Vec<_>, Vec<_>) = properties(schema)
        .into_iter()
        .partition(|(_, key)| key.get("properties").is_some());
    let _ = write!(page, "\n## {title}\n\n");
    if !path.is_empty() {
        let _ = writeln!(page, "{}\n", text(schema, "description"));
    }
    if !keys.is_empty() {
        page.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
    }
    for (name, key) in &keys {
        let default = match key.get("default") {
            Some(default) => code(default),
            None if is_required(schema, name) => "required".to_owned(),
            None => String::new(),
        };
        let (kind, meaning) = (kind(key), meaning(key));
        let _ = writeln!(page, "| `{name}` | {kind} | {default} | {meaning} |");
    }
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    for (name, key) in &keys {
        let items = key
            .get("items")
            .filter(|items| items.get("properties").is_some());
        // The conditions of a rule are the rule's own keys: they need no section.
        if let Some(items) = items.filter(|_| !title.starts_with("`[[")) {
            let path = below(name);
            section(page, &path, &format!("`[[{path}]]`"), items);
        }
    }
    for (name, key) in &tables {
        let path = below(name);
        section(page, &path, &format!("`[{path}]`"), key);
    }
}

/// The keys of a table, those first that must be there.
fn properties(schema: &Value) -> Vec<(&str, &Value)> {
    let keys = schema.get("properties").and_then(Value::as_object);
    let mut keys: Vec<(&str, &Value)> = keys
        .into_iter()
        .flatten()
        .map(|(name, key)| (name.as_str(), key))
        .collect();
    keys.sort_by_key(|(name, _)| !is_required(schema, name));
    keys
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|one| one == name))
}

/// What may stand there, in a word or two.
fn kind(key: &Value) -> String {
    let names = choices(key);
    if !names.is_empty() {
        return names
            .iter()
            .map(|(name, _)| code(name))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let title = text(key, "title");
    if !title.is_empty() {
        return title.to_owned();
    }
    let bounds = |least: &str, most: &str| match (key.get(least), key.get(most)) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", from {least}"),
        _ => String::new(),
    };
    match text(key, "type") {
        "string" => "text".to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        "array" => match key.pointer("/items/type").and_then(Value::as_str) {
            Some("object") => "list of tables".to_owned(),
            Some("number") => "list of numbers".to_owned(),
            _ => "list of texts".to_owned(),
        },
        "object" => "table of texts".to_owned(),
        _ => format!("number{}", bounds("minimum", "maximum")),
    }
}

/// The names that may stand there, each with what it means.
fn choices(key: &Value) -> Vec<(&Value, &str)> {
    let named = key
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let named = named.filter_map(|one| Some((one.get("const")?, text(one, "description"))));
    let plain = key
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    named.chain(plain.map(|name| (name, ""))).collect()
}

fn meaning(key: &Value) -> String {
    let mut meaning = text(key, "description").to_owned();
    for (name, what) in choices(key) {
        if !what.is_empty() {
            let _ = write!(meaning, "<br>{}: {what}", code(name));
        }
    }
    let examples = key.get("examples").and_then(Value::as_array);
    // An example beside a default would be read as another default.
    let default = key
        .get("default")
        .filter(|default| default.as_array().is_none_or(|items| !items.is_empty()));
    if let (Some([example]), None) = (examples.map(Vec::as_slice), default)
        && !example.is_object()
    {
        let _ = write!(meaning, " For example {}.", code(example));
    }
    meaning.replace('|', "\\|")
}

/// A value as TOML writes it.
fn code(value: &Value) -> String {
    format!("`{}`", value.to_string().replace(',', ", "))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
