//! Lists of images and what they cost, histories, names taken away, and everything that prunes.

use crate::images::{everything, layer_folders, layers_of};
use crate::support::{Done, IMAGE, Store, done};
use serde_json::Value;

/// Commits what `script` changes in `base`, as an image of a known moment, and returns its id.
pub fn made_at(store: &Store, seconds: &str, base: &str, script: &str, args: &[&str]) -> String {
    store.ok(&["run", "--name", "made-at", base, "sh", "-ec", script]);
    let mut command = store.command(&["commit"]);
    let (name, flags) = args.split_first().unwrap();
    command.args(flags).arg("made-at").args(Some(name).filter(|name| !name.is_empty()));
    let committed = done(command.env("SOURCE_DATE_EPOCH", seconds));
    assert_eq!(committed.code, 0, "{committed:?}");
    store.ok(&["rm", "made-at"]);
    committed.out.trim().to_owned()
}

/// `old:1` (2001), `app:1` and `me/app:2` (one image of 2004, label team=a), and one without a name (2007).
fn dated() -> Store {
    let store = Store::new();
    made_at(&store, "1000000000", IMAGE, "echo old >/old", &["old:1"]);
    made_at(&store, "1100000000", IMAGE, "echo app >/app", &["app:1", "-c", "LABEL team=a"]);
    store.ok(&["tag", "app:1", "me/app:2"]);
    made_at(&store, "1200000000", IMAGE, "echo none >/none", &[""]);
    store
}

fn names(store: &Store, args: &[&str]) -> String {
    let all = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat();
    store.ok(&all).replace('\n', " ")
}

#[test]
fn a_list_is_filtered() {
    let store = dated();
    let everything = "busybox:latest <none>:<none> app:1 me/app:2 old:1";
    for (args, shown) in [
        (&[][..], everything),
        (&["-a"], everything),
        (&["-f", "dangling=true"], "<none>:<none>"),
        (&["-f", "dangling=false"], "busybox:latest app:1 me/app:2 old:1"),
        (&["-f", "label=team"], "app:1 me/app:2"),
        (&["-f", "label=team=a", "-f", "label=team"], "app:1 me/app:2"),
        (&["-f", "label=team=b"], ""),
        (&["-f", "before=app:1"], "old:1"),
        (&["-f", "since=me/app:2"], "busybox:latest <none>:<none>"),
        (&["-f", "since=old:1", "-f", "before=busybox"], "<none>:<none> app:1 me/app:2"),
        (&["-f", "until=2004-01-01"], "old:1"),
        (&["-f", "until=24h"], "<none>:<none> app:1 me/app:2 old:1"),
        (&["-f", "reference=app"], "app:1"),
        (&["-f", "reference=*:1"], "app:1 old:1"),
        (&["-f", "reference=*/*"], "me/app:2"),
        (&["-f", "reference=o*", "-f", "reference=me/*:2"], "me/app:2 old:1"),
        (&["app"], "app:1"),
        (&["docker.io/library/app"], "app:1"),
        (&["app:2"], ""),
        (&["*p*"], "app:1"),
        (&["me/app:2"], "me/app:2"),
        (&["nosuch"], ""),
        (&["-f", "reference=a*", "-f", "dangling=false", "app"], "app:1"),
    ] {
        assert_eq!(names(&store, args), shown, "{args:?}");
    }
    for (filter, message) in [
        ("nosuch=1", "Invalid filter 'nosuch'"),
        ("dangling=maybe", "Invalid filter 'dangling=maybe'"),
        ("before=nosuch", "No such image: nosuch"),
        ("until=bad", "failed to parse value as time or duration"),
        ("reference=[", "syntax error in pattern"),
    ] {
        let error = store.fails(1, &["images", "-f", filter]);
        assert!(error.contains(message), "{filter}: {error}");
    }
}

#[test]
fn a_list_has_all_of_dockers_fields() {
    let store = dated();
    let row: Value = serde_json::from_str(&store.ok(&["images", "--format", "json", "old"])).unwrap();
    let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "Containers CreatedAt CreatedSince Digest ID Repository SharedSize Size Tag UniqueSize VirtualSize";
    assert_eq!(keys.join(" "), expected);
    assert_eq!((&row["Repository"], &row["Tag"]), (&"old".into(), &"1".into()));
    assert_eq!(row["CreatedAt"], "2001-09-09 01:46:40 +0000 UTC");
    let id = store.inspect("old:1", "{{.Id}}");
    assert_eq!(row["ID"].as_str(), Some(&id[7..19]));
    let table = store.ok(&["images", "--format", "table {{.ID}}\t{{.VirtualSize}}\t{{.SharedSize}}", "old"]);
    assert_eq!(table.lines().next(), Some("IMAGE ID       SIZE      SHARED SIZE"));
    assert_eq!(store.ok(&["images", "-q", "--no-trunc", "old"]), id);
    let digest = store.ok(&["images", "--format", "{{.Digest}}", "old"]);
    assert_eq!(store.inspect(&format!("old@{digest}"), "{{.Id}}"), id, "the digest that is shown names the image");
    assert_eq!(names(&store, &[&format!("old@{digest}")]), "old:1");
}

#[test]
fn a_list_believes_nothing_that_is_not_so_any_more() {
    let store = dated();
    let before = store.ok(&["images", "--no-trunc", "--digests"]);
    let cache = store.root().join("summaries.json");
    assert!(cache.exists());
    std::fs::write(&cache, "{ this is no document").unwrap();
    assert_eq!(store.ok(&["images", "--no-trunc", "--digests"]), before);
    std::fs::remove_file(&cache).unwrap();
    assert_eq!(store.ok(&["images", "--no-trunc", "--digests"]), before);
    // Also what is known is looked at again when its document is another file.
    let id = store.inspect("old:1", "{{.Id}}");
    std::fs::write(store.root().join("blobs/sha256").join(&id[7..]), "broken").unwrap();
    let damaged = store.run(&["images"]);
    assert!(damaged.err.contains("the image old:1 cannot be read") && !damaged.out.contains("old"), "{damaged:?}");
    assert!(damaged.out.contains("app"), "the others are not concerned: {damaged:?}");
    std::fs::remove_file(store.root().join("blobs/sha256").join(&id[7..])).unwrap();
    assert!(store.run(&["images"]).err.contains("the image old:1 cannot be read"));
    store.ok(&["rmi", "old:1"]);
    assert_eq!(store.run(&["images"]).err, "");
}

#[test]
fn a_history_goes_back_to_the_first_layer() {
    let store = Store::new();
    store.ok(&["run", "--name", "one", IMAGE, "sh", "-c", "printf 12345 >/five; : a very long command line it is"]);
    let one = store.ok(&["commit", "-m", "my words", "one", "one"]);
    store.ok(&["run", "--name", "two", "one", "true"]);
    store.ok(&["commit", "two", "two"]);
    let table = store.ok(&["history", "two"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("IMAGE          CREATED"), "{table}");
    assert!(lines[2].starts_with(&one[7..19]) && lines[2].ends_with("5B        my words"), "{table}");
    assert!(lines[2].contains("sh -c printf 12345 >/five; : a very long com…  "), "{table}");
    assert!(lines[3].ends_with("Imported from -"), "{table}");
    assert!(store.ok(&["history", "--no-trunc", "two"]).contains("a very long command line it is"));
    let ids = store.ok(&["history", "-q", "--no-trunc", "two"]);
    let base = store.inspect(IMAGE, "{{.Id}}");
    assert_eq!(ids.lines().skip(1).collect::<Vec<_>>(), [one.as_str(), base.as_str()]);
    let raw = store.ok(&["history", "-H=false", "--format", "{{.CreatedSince}} {{.CreatedAt}} {{.Size}}", "one"]);
    let row: Vec<&str> = raw.lines().next().unwrap().split(' ').collect();
    assert_eq!((row[0], row[2]), (row[1], "5"), "{raw}");
    assert!(row[0].ends_with('Z') && row[0].len() == 20, "{raw}");
    let json: Value =
        serde_json::from_str(store.ok(&["history", "--format", "json", "one"]).lines().next().unwrap()).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.join(" "), "Comment CreatedAt CreatedBy CreatedSince ID Size");
    assert!(store.fails(1, &["history", "nosuch"]).contains("No such image: nosuch"));
    // An image from elsewhere: what it was made from is not here.
    store.loaded_image("foreign", r#"{"Cmd":["sh"]}"#);
    store.ok(&["rm", "one", "two"]);
    assert_eq!(store.ok(&["history", "-q", "foreign"]).lines().count(), 1);
}

#[test]
fn names_are_taken_and_the_image_stays() {
    let store = Store::new();
    let id = store.inspect(IMAGE, "{{.Id}}");
    store.ok(&["tag", IMAGE, "other:1"]);
    store.ok(&["tag", IMAGE, "other:2"]);
    let before = everything(&store);
    assert!(store.fails(1, &["untag", IMAGE, "other:1", "foreign:1"]).contains("foreign:1 is not a name of the image"));
    assert!(store.fails(1, &["untag", "nosuch"]).contains("No such image: nosuch"));
    assert_eq!(everything(&store), before);
    assert_eq!(store.ok(&["untag", IMAGE, "other:1"]), "Untagged: other:1");
    assert_eq!(store.inspect(IMAGE, "{{.RepoTags}}"), "[busybox:latest other:2]");
    assert_eq!(store.ok(&["image", "untag", &id]).lines().count(), 2);
    assert_eq!(names(&store, &[]), "<none>:<none>");
    assert_eq!(store.ok(&["run", "--rm", &id, "echo", "still here"]), "still here");
}

#[test]
fn what_has_no_name_is_pruned() {
    let store = dated();
    let nameless = store.ok(&["images", "-q", "--no-trunc", "-f", "dangling=true"]);
    let before = everything(&store);
    let asked = store.run(&["image", "prune"]);
    let warning = "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ";
    assert_eq!((asked.code, asked.out), (0, format!("{warning}Total reclaimed space: 0B\n")));
    let refused = store.run_with_input(&["image", "prune"], b"no\n");
    assert_eq!((refused.code, refused.out.contains("Deleted")), (0, false));
    for filter in ["until=2005-01-01", "label=nosuch"] {
        let kept = store.ok(&["image", "prune", "-f", "--filter", filter]);
        assert_eq!(kept, "Total reclaimed space: 0B", "{filter}");
    }
    assert!(store.fails(1, &["image", "prune", "-f", "--filter", "until=bad"]).contains("as time or duration"));
    assert!(store.fails(1, &["image", "prune", "-f", "--filter", "nosuch=1"]).contains("Invalid filter 'nosuch'"));
    assert_eq!(everything(&store), before);
    let pruned = store.run_with_input(&["image", "prune"], b"y\n");
    let lines: Vec<&str> = pruned.out.strip_prefix(warning).unwrap().lines().collect();
    assert_eq!((lines[0], lines[1]), ("Deleted Images:", format!("deleted: {nameless}").as_str()));
    assert!(lines[2].starts_with("deleted: sha256:"), "its own layer: {lines:?}");
    assert_eq!(&lines[3..], ["", "Total reclaimed space: 5B"]);
    assert_eq!(names(&store, &["-a"]), "busybox:latest app:1 me/app:2 old:1");
}

#[test]
fn images_that_no_container_uses_are_pruned_with_their_names() {
    let store = dated();
    store.ok(&["create", "--name", "user", "old:1", "cat", "/old"]);
    let asked = store.run(&["image", "prune", "-a"]).out;
    assert!(asked.starts_with("WARNING! This will remove all images without at least one container"), "{asked}");
    let out = store.ok(&["image", "prune", "-a", "-f", "--filter", "label!=team"]);
    assert!(out.contains("untagged: busybox:latest") && !out.contains("app"), "{out}");
    assert!(!out.contains("untagged: old:1"), "{out}");
    let out = store.ok(&["image", "prune", "--all", "--force"]);
    assert!(out.contains("untagged: app:1\nuntagged: me/app:2\ndeleted: sha256:"), "{out}");
    assert_eq!(names(&store, &[]), "old:1");
    assert_eq!(names(&store, &["-a"]), "<none>:<none> old:1", "what it was made from stays without its name");
    assert_eq!(layer_folders(&store).len(), layers_of(&store, "old:1").len());
    assert_eq!(store.ok(&["start", "user"]), "user");
    store.ok(&["rm", "-f", "user"]);
    store.ok(&["image", "prune", "-af"]);
    assert!(layer_folders(&store).is_empty());
}

#[test]
fn parents_stay_if_asked() {
    let store = Store::new();
    store.committed_image(IMAGE, "one", "echo 1 >/one");
    store.ok(&["run", "--name", "two", "one", "touch", "/two"]);
    store.ok(&["commit", "two", "two"]);
    store.ok(&["rm", "two"]);
    store.ok(&["untag", "one"]);
    assert_eq!(names(&store, &[]), "two:latest busybox:latest", "what others were made from is not shown");
    assert_eq!(names(&store, &["-a"]), "two:latest <none>:<none> busybox:latest");
    let out = store.ok(&["rmi", "--no-prune", "two"]);
    assert_eq!(out.lines().filter(|l| l.starts_with("Deleted")).count(), 2, "{out}");
    assert_eq!(names(&store, &[]), "<none>:<none> busybox:latest");
}

#[test]
fn whether_there_is_one_is_told_by_the_status() {
    let store = Store::new();
    store.ok(&["create", "--name", "box", IMAGE, "true"]);
    let id = store.inspect(IMAGE, "{{.Id}}");
    let silent = |args: &[&str]| {
        let Done { code, out, err, .. } = store.run(args);
        assert_eq!((out, err), (String::new(), String::new()), "{args:?}");
        code
    };
    for (kind, name, code) in [
        ("image", IMAGE, 0),
        ("image", &id, 0),
        ("image", &id[7..15], 0),
        ("image", "nosuch", 1),
        ("image", "box", 1),
        ("container", "box", 0),
        ("container", "nosuch", 1),
        ("container", IMAGE, 1),
    ] {
        assert_eq!(silent(&[kind, "exists", name]), code, "{kind} {name}");
    }
}

#[test]
fn containers_that_are_not_up_are_pruned() {
    let store = Store::new();
    store.ok(&["run", "--name", "ended", "--label", "l=1", IMAGE, "sh", "-c", "printf 123 >/three"]);
    store.ok(&["create", "--name", "created", IMAGE, "true"]);
    store.ok(&["run", "-d", "--name", "up", IMAGE, "sleep", "1000"]);
    let ended = store.inspect("ended", "{{.Id}}");
    let asked = store.run(&["container", "prune"]);
    assert!(asked.out.starts_with("WARNING! This will remove all stopped containers.\n"), "{asked:?}");
    assert_eq!(store.ok(&["container", "prune", "-f", "--filter", "until=24h"]), "Total reclaimed space: 0B");
    let out = store.ok(&["container", "prune", "-f", "--filter", "label=l=1"]);
    assert_eq!(out, format!("Deleted Containers:\n{ended}\n\nTotal reclaimed space: 3B"));
    let out = store.ok(&["container", "prune", "-f"]);
    assert!(out.starts_with("Deleted Containers:\n"), "{out}");
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]), "up running");
    store.ok(&["rm", "-f", "up"]);
}

#[test]
fn the_room_that_things_take_is_shown() {
    let store = Store::new();
    store.committed_image(IMAGE, "used", "printf 12345 >/five");
    store.committed_image(IMAGE, "unused", "printf 1234567 >/seven");
    store.ok(&[
        "run",
        "--name",
        "user",
        "-v",
        "data:/data",
        "used",
        "sh",
        "-c",
        "printf 12 >/two; printf 1234 >/data/four",
    ]);
    store.ok(&["run", "-d", "--name", "up", "used", "sleep", "1000"]);
    let rows = store.ok(&["system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Reclaimable}}"]);
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows[0], "Images|3|1|7B (0%)", "only what the unused image has alone");
    assert_eq!(rows[1..], ["Containers|2|1|2B (100%)", "Local Volumes|1|1|0B (0%)", "Build Cache|0|0|0B"]);
    let table = store.ok(&["system", "df"]);
    assert_eq!(table.lines().next(), Some("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE"));
    assert!(table.contains("\nLocal Volumes   1         1         4B        0B (0%)\n"), "{table}");
    let document: Value = serde_json::from_str(&store.ok(&["system", "df", "-v", "--format", "json"])).unwrap();
    let image =
        |name: &str| document["Images"].as_array().unwrap().iter().find(|i| i["Repository"] == name).unwrap().clone();
    assert_eq!((&image("used")["UniqueSize"], &image("used")["Containers"]), (&"5B".into(), &"2".into()));
    assert_eq!((&image("unused")["UniqueSize"], &image("unused")["Containers"]), (&"7B".into(), &"0".into()));
    assert_eq!(image(IMAGE)["UniqueSize"], "0B");
    assert_eq!(document["Volumes"][0]["Links"], "1");
    let text = store.ok(&["system", "df", "-v"]);
    for head in [
        "Images space usage:",
        "REPOSITORY   TAG       IMAGE ID       CREATED",
        "Containers space usage:",
        "Local Volumes space usage:",
        "VOLUME NAME   LINKS     SIZE\ndata          1         4B",
        "Build cache usage: 0B",
    ] {
        assert!(text.contains(head), "{head}: {text}");
    }
    store.ok(&["rm", "-f", "up", "user"]);
}

#[test]
fn everything_that_nobody_needs_is_pruned_at_once() {
    let store = dated();
    store.ok(&["run", "--name", "gone", "-v", "kept:/data", "app:1", "true"]);
    store.ok(&["run", "-d", "--name", "up", "old:1", "sleep", "1000"]);
    let before = everything(&store);
    let asked = store.run(&["system", "prune", "-a", "--volumes"]);
    assert_eq!(asked.code, 0);
    for line in ["  - all stopped containers\n", "  - all images without at least one container associated to them\n"] {
        assert!(asked.out.contains(line), "{asked:?}");
    }
    assert!(asked.out.ends_with("\nAre you sure you want to continue? [y/N] "), "{asked:?}");
    let error = store.fails(1, &["system", "prune", "-f", "--volumes", "--filter", "until=1h"]);
    assert!(error.contains("The \"until\" filter is not supported with \"--volumes\""), "{error}");
    assert_eq!(everything(&store), before);
    let out = store.ok(&["system", "prune", "-f"]);
    assert!(out.starts_with("Deleted Containers:\n") && out.contains("\n\nDeleted Images:\ndeleted: sha256:"), "{out}");
    assert!(out.contains("\n\nTotal reclaimed space: "), "{out}");
    assert_eq!(names(&store, &["-a"]), "busybox:latest app:1 me/app:2 old:1");
    store.ok(&["system", "prune", "-af"]);
    assert_eq!(names(&store, &[]), "old:1");
    assert!(store.root().join("volumes/kept").exists(), "volumes with a name stay");
    assert_eq!(store.ok(&["exec", "up", "cat", "/old"]), "old");
    store.ok(&["rm", "-f", "up"]);
}

#[test]
fn the_groups_have_every_command() {
    let store = Store::new();
    for words in [
        "image ls|image list|images",
        "image rm|image remove|rmi",
        "image inspect|inspect",
        "image history|history",
        "image tag|tag",
        "image untag|untag",
        "image load|load",
        "image import|import",
        "container ls|container list|container ps|ps",
        "container rm|rm",
        "container run|run",
        "container commit|commit",
        "container exec|exec",
        "container logs|logs",
        "container inspect|inspect",
        "system info|info",
    ] {
        let helps: Vec<String> = words
            .split('|')
            .map(|words| {
                let args: Vec<&str> = words.split(' ').chain(["--help"]).collect();
                let help = store.ok(&args);
                let options = help.find("\nOptions:").expect("a help has options");
                help[options..].lines().filter(|l| l.trim_start().starts_with('-')).collect::<Vec<_>>().join("\n")
            })
            .collect();
        assert!(helps.windows(2).all(|pair| pair[0] == pair[1]), "{words}");
    }
}
