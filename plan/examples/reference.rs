//! Writes what is made from the types of an app's file: its JSON Schema and its
//! reference page.
//!
//! ```sh
//! cargo run -p cutover-plan --example reference -- schema >docs/schema/app.schema.json
//! cargo run -p cutover-plan --example reference -- page >docs/app.md
//! ```

use std::io::Write as _;

use cutover_plan::spec::written;

fn main() -> std::io::Result<()> {
    let text = match std::env::args().nth(1).as_deref() {
        Some("schema") => written::schema_text(),
        Some("page") => written::page(),
        _ => {
            let error = "say what to write: schema or page";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, error));
        }
    };
    std::io::stdout().write_all(text.as_bytes())
}
