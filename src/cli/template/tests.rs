use super::*;
use proptest::prelude::*;
use serde_json::json;

const COLUMNS: [(&str, &str); 4] =
    [("ID", "CONTAINER ID"), ("Image", "IMAGE"), ("Names", "NAMES"), ("Labels", "LABELS")];

fn shown(format: &str, rows: &[Value]) -> Result<String> {
    Format::parse(format, &COLUMNS, &["ID", "Names"])?.rows(rows)
}

fn row(id: &str, name: &str) -> Value {
    json!({"ID": id, "Image": "alpine", "Names": name, "Labels": "a=1,b.c-d=2"})
}

#[test]
fn tables() -> Result<()> {
    let rows = [row("c7f841ff540c", "web"), row("1", "a\tb\x1b[2J")];
    let expected = "CONTAINER ID   NAMES\nc7f841ff540c   web\n1              a\\tb\\u{1b}[2J\n";
    for format in ["", "table", "table {{.ID}}\\t{{.Names}}", "table {{.ID}}\t{{.Names}}"] {
        assert_eq!(shown(format, &rows)?, expected, "{format}");
    }
    let functions = "table {{truncate .ID 2}}\t{{upper .Names}}\t{{.Label \"b.c-d\"}}";
    assert_eq!(shown(functions, &rows[..1])?, "CONTAINER ID   NAMES     c d\nc7             WEB       2\n");
    assert_eq!(shown("table {{.Names}}", &[])?, "NAMES\n");
    Ok(())
}

#[test]
fn plain_rows() -> Result<()> {
    let rows = [row("1", "web"), row("2", "db")];
    for (format, expected) in [
        ("{{.ID}}: {{.Names}}", "1: web\n2: db\n"),
        ("{{.ID}}\\t{{.Names}}", "1\tweb\n2\tdb\n"),
        ("{{json .Names}}", "\"web\"\n\"db\"\n"),
        ("{{.Label \"a\"}}{{ .Label `b.c-d` }}", "12\n12\n"),
        ("{{if eq .ID \"1\"}}one{{else}}more{{end}}", "one\nmore\n"),
        ("tableau", "tableau\ntableau\n"),
    ] {
        assert_eq!(shown(format, &rows)?, expected, "{format}");
    }
    let line = "{\"ID\":\"1\",\"Image\":\"alpine\",\"Labels\":\"a=1,b.c-d=2\",\"Names\":\"web\"}\n";
    assert_eq!(shown("json", &rows[..1])?, line);
    assert_eq!(shown("{{json .}}", &rows[..1])?, line);
    Ok(())
}

#[test]
fn wrong_rows() {
    let rows = [row("1", "web")];
    for (format, error) in [
        (
            "{{.Bad}}",
            "template: :1:2: executing \"\" at <.Bad>: can't evaluate field Bad in type *formatter.SubContext",
        ),
        ("table {{.ID}}\t{{.Bad}}", "template: :1:10: executing \"\" at <.Bad>: can't evaluate field Bad in type"),
        ("{{.ID", "template parsing error: template: "),
        ("{{nosuch .ID}}", "nosuch"),
        ("{{join .ID \",\"}}", "expected list; got string"),
        ("{{.ID.X}}", "can't evaluate field X in type string"),
    ] {
        let found = shown(format, &rows).unwrap_err().to_string();
        assert!(found.contains(error), "{found}");
    }
}

#[test]
fn documents() -> Result<()> {
    let document = json!({
        "Id": "sha256:1",
        "Size": 7_800_000_000u64,
        "Huge": u64::MAX,
        "Part": 0.5,
        "Config": {"Env": ["A=1", "B=2"], "Labels": {"k": "v", "my.k": "w"}, "Cmd": null, "Volumes": {"/x": {}}},
        "State": {"Running": true, "Pid": 12},
        "Mounts": [{"Type": "bind"}, {"Type": "volume"}],
    });
    for (template, expected) in [
        ("{{.Id}}", "sha256:1"),
        (
            "{{.State.Pid}} {{.State.Running}} {{.Size}} {{.Huge}} {{.Part}}",
            "12 true 7800000000 18446744073709551615 0.5",
        ),
        ("{{json .Config.Env}}", "[\"A=1\",\"B=2\"]"),
        ("{{json .Config.Cmd}} {{len .Config.Cmd}} {{len .Mounts}}", "null 0 2"),
        ("{{index .Config.Labels \"my.k\"}}|{{index .Config.Labels \"none\"}}|{{index .Config.Cmd \"x\"}}", "w||"),
        ("{{.Config.Labels.k}} {{.Config.Labels.none}}", "v <no value>"),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Type}};{{end}}", "0=bind;1=volume;"),
        ("{{range .Config.Cmd}}x{{end}}", ""),
        ("{{range $k, $v := .Config.Volumes}}{{$k}} {{json $v}}{{end}}", "/x {}"),
        ("{{join .Config.Env \", \"}} {{(index .Mounts 0).Type}}", "A=1, B=2 bind"),
        ("{{index (split .Id \":\") 1 | printf \"%q\"}}", "\"1\""),
        (
            "{{title \"two words\"}} {{upper \"a\"}}{{lower \"B\"}}{{pad \"x\" 1 2}}|{{truncate \"abc\" 2}}",
            "Two Words Ab x  |ab",
        ),
        ("{{with .State}}{{if and .Running (ne .Pid 0)}}up{{end}}{{end}}", "up"),
        ("{{println .Id}}", "sha256:1\n"),
        ("{{$x := .State}}{{$x.Pid | printf \"%05d\"}}", "00012"),
        ("{{.Config.Labels}}", "map[k:v my.k:w]"),
        ("json", &document.to_string()),
        ("", ""),
    ] {
        assert_eq!(render_one(template, &document)?, expected, "{template}");
    }
    Ok(())
}

#[test]
fn wrong_documents() {
    let document = json!({"Id": "x", "Config": {}});
    for (template, error) in [
        ("{{.Bad}}", "template: :1:2: executing \"\" at <.Bad>: map has no entry for key \"Bad\""),
        (
            "{{.Id}}\n {{.Config.Bad}}",
            "template: :2:3: executing \"\" at <.Config.Bad>: map has no entry for key \"Bad\"",
        ),
        ("{{.config}}", "template: :1:2: executing \"\" at <.config>: map has no entry for key \"config\""),
    ] {
        let found = render_one(template, &document).unwrap_err().to_string();
        assert_eq!(found, format!("template parsing error: {error}"));
    }
    for template in ["{{", "{{range .Id}}{{end}}", "{{index .Id 9}}", "{{pad \"a\" 1}}", "{{truncate 1 1}}"] {
        assert!(render_one(template, &document).is_err(), "{template}");
    }
}

proptest! {
    #[test]
    fn never_panics(text: String, body in "[-.|$a-zA-Z\"` ()0-9]{0,16}", value: String) {
        let rows = [row(&value, &text)];
        for template in [text, format!("{{{{{body}}}}}"), format!("é{{{{.{value}}}}}"), format!("é.{value}{{{{.X{body}}}}}")] {
            let _ = shown(&template, &rows);
            let _ = render_one(&template, &rows[0]);
        }
    }
}
