//! docs/control.md says nothing that the control API does not do: routes, examples, statuses and keys are held against the
//! sources and the types.

use std::collections::BTreeSet;
use std::fs;

use axum::http::StatusCode;
use roamcast::control::Report;
use serde_json::Value;

use crate::page::{Page, no_complaints, root};

fn page() -> Page {
    Page::read("docs/control.md")
}

fn source(name: &str) -> String {
    fs::read_to_string(root().join("src/control").join(name)).expect("a source of the control API")
}

/// `GET /api/v1/status`, as the router has them.
fn routes() -> BTreeSet<String> {
    let api = source("api.rs");
    let routes = api.split(".route(\"").skip(1).map(|rest| {
        let (path, handler) = rest.split_once("\", ").expect("a path and a handler");
        format!("{} {path}", handler.split('(').next().expect("a method").to_uppercase())
    });
    routes.collect()
}

#[test]
fn the_table_of_routes_is_complete() {
    let shown = page().table("method").iter().map(|row| format!("{} {}", row[0], row[1].trim_matches('`'))).collect();
    let routes = routes();
    assert!(routes.len() >= 9, "{routes:?}");
    assert_eq!(routes, shown);
}

#[test]
fn every_example_asks_for_a_route() {
    let lines = page().block_lines("sh");
    assert!(lines.len() >= 5 && lines.iter().all(|line| line.starts_with("curl ")), "{lines:?}");
    let is_posted = |line: &str| line.contains(" -X POST ") || line.contains(" -d ");
    let asked = |line: &String| {
        let (_, path) = line.split_once("http://").and_then(|(_, url)| url.split_once('/')).expect("a URL");
        format!("{} /{path}", if is_posted(line) { "POST" } else { "GET" })
    };
    let routes = routes();
    let wrong = lines.iter().filter(|line| !routes.contains(&asked(line))).cloned().collect::<Vec<_>>();
    no_complaints(&wrong);
    let bodies = lines.iter().filter_map(|line| line.split("-d '").nth(1)?.split('\'').next());
    let bodies: Vec<Value> = bodies.map(|body| serde_json::from_str(body).expect("JSON")).collect();
    assert!(!bodies.is_empty() && bodies.iter().all(|body| body["key"].is_string()), "{bodies:?}");
}

#[test]
fn the_status_shown_has_the_shape_of_today() {
    let lines = page().block_lines("json");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let shown: Value = serde_json::from_str(&lines[0]).expect("JSON");
    let report: Report = serde_json::from_value(shown.clone()).expect("a report");
    // A key that is gone, or new, shows here.
    assert_eq!(serde_json::to_value(report).expect("JSON"), shown);
}

#[test]
fn the_table_of_refusals_is_complete() {
    let sources = source("api.rs") + &source("guard.rs") + &source("desk.rs");
    let names: BTreeSet<&str> = sources
        .split("StatusCode::")
        .skip(1)
        .filter_map(|rest| rest.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_').next())
        .collect();
    let name = |code: StatusCode| code.canonical_reason().unwrap_or_default().to_uppercase().replace(' ', "_");
    let codes = (400..600).filter_map(|code| StatusCode::from_u16(code).ok());
    let said: BTreeSet<u16> =
        codes.filter(|code| names.contains(name(*code).as_str())).map(|code| code.as_u16()).collect();
    // This one comes from axum.
    let too_large = StatusCode::PAYLOAD_TOO_LARGE.as_u16();
    let shown: BTreeSet<u16> = page().table("status").iter().map(|row| row[0].parse().expect("a number")).collect();
    assert_eq!(shown, said.into_iter().chain([too_large]).collect());
}

#[test]
fn every_key_that_may_change_is_named() {
    let settings = source("settings.rs");
    let live = settings.split("const LIVE: &[&str] = &[").nth(1).and_then(|rest| rest.split(']').next());
    let live: Vec<&str> = live.expect("the list").split('"').skip(1).step_by(2).collect();
    assert!(live.len() > 3, "{live:?}");
    let named = |key: &str| match key.strip_suffix('.') {
        Some(section) => page().0.contains(&format!("`[{section}]`")),
        None => page().0.contains(&format!("`{key}`")),
    };
    no_complaints(&live.into_iter().filter(|key| !named(key)).map(str::to_owned).collect::<Vec<_>>());
}

#[test]
fn every_link_leads_to_a_file() {
    let page = page();
    let dead = page.links().into_iter().filter(|link| !root().join("docs").join(link).exists());
    no_complaints(&dead.map(str::to_owned).collect::<Vec<_>>());
}
