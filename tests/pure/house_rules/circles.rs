//! No circle of rooms, of folders, or of files.
//!
//! What counts: in every folder of `src`, the files and folders that lie side by side form a graph (a folder counts as one, with
//! all that is in it), and that graph has no circle. An arrow is any path that product code names through `crate::`, `super::`,
//! `self::` or a module beside it, followed through the `use` lines of the module it leads to: what a parent only passes on
//! belongs to the file that defines it.
//!
//! What does not count: a module and those that it lies in. A parent calls its children, and a child may be a part of what its
//! parent defines (`impl Paths` in `paths/select.rs`); methods that are called without naming their module cannot be seen here.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, allowed, no_complaints, sources};

type Path = Vec<String>;

/// One file, as others see it.
#[derive(Default)]
struct Module {
    /// The name in this module, and what it stands for.
    imports: BTreeMap<String, Path>,
    /// All that it names in this crate.
    named: BTreeSet<Path>,
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module_path(source: &Source) -> Path {
    let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Path::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Takes a `use` tree apart: the paths in it, and the names that they get.
fn leaves(prefix: &str, tree: &str, into: &mut Vec<(Path, String)>) {
    let tree = tree.trim();
    if let (Some(open), Some(close)) = (tree.find('{'), tree.rfind('}')) {
        let (mut depth, mut start) = (0, open + 1);
        for (at, c) in tree.char_indices().filter(|(at, _)| (open + 1..=close).contains(at)) {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    leaves(&format!("{prefix}{}", &tree[..open]), &tree[start..at], into);
                    start = at + 1;
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path: Path = format!("{prefix}{}", path.trim()).split("::").map(str::to_owned).collect();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
        path.pop();
    }
    if let Some(name) = alias.map(str::to_owned).or_else(|| path.last().cloned()).filter(|_| !tree.is_empty()) {
        into.push((path, name));
    }
}

/// From the root of the crate; `None`: a path into another crate, or to something in scope.
fn absolute(from: &[String], path: &[String], modules: &BTreeSet<Path>) -> Option<Path> {
    let mut base = from.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (base, rest) = (Path::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while let Some(("super", after)) = rest.split_first().map(|(first, after)| (first.as_str(), after)) {
                base.pop();
                rest = after;
            }
        }
        child => {
            let beside: Path = from.iter().cloned().chain([child.to_owned()]).collect();
            if !modules.contains(&beside) {
                return None;
            }
        }
    }
    Some(base.into_iter().chain(rest.iter().cloned()).collect())
}

/// Reads what a file names: its `use` statements, and paths elsewhere.
fn read(from: &[String], code: &str, modules: &BTreeSet<Path>) -> Module {
    let mut module = Module::default();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let is_use = |line: &str| line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "));
        let begin = statement.lines().scan(0, |at, line| Some((std::mem::replace(at, *at + line.len() + 1), line)));
        let Some(begin) = begin.filter(|(_, line)| is_use(line)).map(|(at, _)| at).next() else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(&statement[..begin]);
        let tree = statement[begin..].split_once("use ").map_or("", |(_, tree)| tree);
        let mut found = Vec::new();
        leaves("", tree.trim_end_matches(';'), &mut found);
        for (path, name) in found {
            if let Some(path) = absolute(from, &path, modules) {
                module.named.insert(path.clone());
                module.imports.insert(name, path);
            }
        }
    }
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(root) {
            let before = rest[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            let text: String =
                rest[at..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            let path: Path = text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            module.named.extend(absolute(from, &path, modules));
        }
    }
    module
}

/// The module that defines what this path names.
fn definer(path: &[String], modules: &BTreeMap<Path, Module>, hops: usize) -> Path {
    let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length])).unwrap_or(0);
    let (module, rest) = path.split_at(length);
    let passed_on = rest.first().and_then(|name| modules.get(module)?.imports.get(name));
    match passed_on {
        Some(import) if hops > 0 && import != path => {
            let further: Path = import.iter().chain(&rest[1..]).cloned().collect();
            definer(&further, modules, hops - 1)
        }
        _ => module.to_vec(),
    }
}

/// Arrows between neighbours, by the folder that they lie in; each with a pair of files that it stands for.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

fn graphs(sources: &[Source]) -> BTreeMap<Path, Graph> {
    let product = || sources.iter().filter(|source| !source.is_test() && source.path != "main.rs");
    let paths: BTreeSet<Path> = product().map(module_path).collect();
    let modules: BTreeMap<Path, Module> =
        product().map(|source| (module_path(source), read(&module_path(source), &source.product(), &paths))).collect();
    let mut graphs: BTreeMap<Path, Graph> = BTreeMap::new();
    for (from, module) in &modules {
        for to in module.named.iter().map(|path| definer(path, &modules, 8)) {
            let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if common < from.len() && common < to.len() {
                let arrows =
                    graphs.entry(from[..common].to_vec()).or_default().entry(from[common].clone()).or_default();
                arrows.entry(to[common].clone()).or_insert(format!("{} -> {}", from.join("::"), to.join("::")));
            }
        }
    }
    graphs
}

/// One circle, if there is any: each of its members in turn.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn visit<'g>(graph: &'g Graph, at: &'g str, way: &mut Vec<&'g str>, done: &mut BTreeSet<&'g str>) -> bool {
        if let Some(start) = way.iter().position(|before| *before == at) {
            way.drain(..start);
            return true;
        }
        if !done.insert(at) {
            return false;
        }
        way.push(at);
        if graph.get(at).is_some_and(|arrows| arrows.keys().any(|next| visit(graph, next, way, done))) {
            return true;
        }
        way.pop();
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    let found = graph.keys().any(|start| visit(graph, start, &mut way, &mut done));
    found.then(|| way.into_iter().map(str::to_owned).collect())
}

#[test]
fn there_is_no_circle_of_rooms_folders_or_files() {
    let graphs = graphs(&sources());
    let arrows: usize = graphs.values().flat_map(|graph| graph.values()).map(BTreeMap::len).sum();
    assert!(arrows > 300, "the paths in src were not understood: {arrows} arrows");
    let mut complaints = Vec::new();
    for (folder, graph) in &graphs {
        let Some(circle) = circle(graph) else { continue };
        complaints.push(format!("a circle in src/{}:", folder.join("/")));
        for (at, name) in circle.iter().enumerate() {
            let next = &circle[(at + 1) % circle.len()];
            complaints.push(format!("    {}", graph[name][next]));
        }
    }
    no_complaints(&complaints);
}

/// The table itself must not let a circle of rooms pass.
#[test]
fn no_two_rooms_may_name_each_other() {
    let rooms: BTreeSet<String> = sources().iter().map(|source| source.room().to_owned()).collect();
    let mut graph = Graph::new();
    for room in &rooms {
        for other in allowed(room).iter().map(|prefix| prefix.split("::").next().unwrap_or(prefix)) {
            assert!(rooms.contains(other), "`{room}` may name `{other}`, which is no room");
            graph.entry(room.clone()).or_default().insert(other.to_owned(), String::new());
        }
    }
    assert_eq!(circle(&graph), None);
}

#[test]
fn use_trees_are_taken_apart_and_circles_found() {
    let taken_apart = |tree: &str| {
        let mut found = Vec::new();
        leaves("", tree, &mut found);
        found.into_iter().map(|(path, name)| format!("{} = {name}", path.join("::"))).collect::<Vec<_>>()
    };
    assert_eq!(
        taken_apart("crate::a::{self, b::{C, D as E},\nf::*,}"),
        ["crate::a = a", "crate::a::b::C = C", "crate::a::b::D = E", "crate::a::f = f"]
    );
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let found = |texts: [(&str, &str); 4]| {
        let sources: Vec<Source> = texts.iter().map(|(path, text)| file(path, text)).collect();
        graphs(&sources).values().find_map(circle)
    };
    let clean = [
        ("x/mod.rs", "mod a;\npub use b::B;\npub use c::C;"),
        ("x/a.rs", "use super::B;\nfn f() -> crate::x::c::C {}"),
        ("x/b.rs", "use super::{\nC,\n};"),
        ("x/c.rs", "#[cfg(test)]\nmod tests {\nuse super::super::a::A;\n}"),
    ];
    assert_eq!(found(clean), None);
    for (at, closing) in [(2, "use super::a::A;"), (3, "pub(super) use super::B;"), (3, "let x = crate::x::a::A;")] {
        let mut texts = clean;
        texts[at].1 = closing;
        assert!(found(texts).is_some_and(|circle| circle.len() >= 2), "{closing}");
    }
}
