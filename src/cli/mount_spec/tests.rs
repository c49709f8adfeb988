use super::*;
use proptest::prelude::*;

fn here() -> &'static Path {
    Path::new("/home/me")
}

fn request(source: MountSource, target: &str) -> MountRequest {
    MountRequest::new(source, target)
}

fn bind(path: &str, create: bool) -> MountSource {
    MountSource::Bind { path: path.into(), create }
}

fn named(name: &str) -> MountSource {
    MountSource::Volume(name.into())
}

fn memory(size: Option<u64>, mode: Option<u32>, options: &[&str]) -> MountSource {
    MountSource::Tmpfs { size, mode, options: options.iter().map(|option| (*option).to_string()).collect() }
}

fn message(result: Result<MountRequest>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn volumes() -> Result<()> {
    for (spec, source, target) in [
        ("/x", MountSource::Anonymous, "/x"),
        ("/a:/x", bind("/a", true), "/x"),
        ("/:/x", bind("/", true), "/x"),
        ("/a/../b/:/x//y/.", bind("/b", true), "/x/y"),
        (".:/x", bind("/home/me", true), "/x"),
        ("./d:/x", bind("/home/me/d", true), "/x"),
        ("../d:/x", bind("/home/d", true), "/x"),
        ("vol:/x:rw,z", named("vol"), "/x"),
        ("/a:/x:cached", bind("/a", true), "/x"),
        ("vol.1:/a/../x", named("vol.1"), "/x"),
    ] {
        let found = MountRequest { tuning: Tuning::default(), ..volume(spec, here())? };
        assert_eq!(found, request(source, target), "{spec}");
    }
    let found = volume("/a:/x:ro,rslave,Z", here())?;
    assert_eq!((found.read_only, found.propagation.as_deref(), found.no_copy), (true, Some("rslave"), false));
    assert!(volume("vol:/x:nocopy", here())?.no_copy);
    Ok(())
}

#[test]
fn refused_volumes() {
    let config = "invalid volume specification: '{}': invalid mount config for type";
    for (spec, error) in [
        ("", "invalid empty volume spec"),
        (":/x", "invalid spec: {}: empty section between colons"),
        ("a:", "invalid spec: {}: empty section between colons"),
        ("/x:ro", "invalid volume specification: '{}'"),
        ("/a:/b:ro:z", "invalid volume specification: '{}'"),
        ("/a:/x:zz", "invalid mode: zz"),
        ("/a:/x:ro,rw", "invalid mode: ro,rw"),
        ("/a:/x:ro,", "invalid mode: ro,"),
        ("/a:/x:shared,slave", "invalid mode: shared,slave"),
        ("/a:/", "CONFIG \"bind\": invalid specification: destination can't be '/'"),
        ("/..", "CONFIG \"volume\": invalid specification: destination can't be '/'"),
        ("vol:rel", "CONFIG \"volume\": invalid mount path: 'rel' mount path must be absolute"),
        ("rel", "CONFIG \"volume\": invalid mount path: 'rel' mount path must be absolute"),
        ("vol:/x:shared", "CONFIG \"volume\": field BindOptions must not be specified"),
        ("/a:/x:nocopy", "CONFIG \"bind\": field VolumeOptions must not be specified"),
        ("v:/x", "volume name is too short, names should be at least two alphanumeric characters"),
        (
            "relative/dir:/x",
            "\"relative/dir\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
             are allowed. If you intended to pass a host directory, use absolute path",
        ),
    ] {
        assert_eq!(message(volume(spec, here())), error.replace("CONFIG", config).replace("{}", spec));
    }
    assert!(message(volume("~/d:/x", here())).contains("includes invalid characters"));
}

#[test]
fn mounts() -> Result<()> {
    for (spec, source) in [
        ("type=bind,source=/a,target=/x", bind("/a", false)),
        ("type=BIND,SRC=./a,dst=/x,bind-recursive=enabled,consistency=cached", bind("/home/me/a", false)),
        ("source=vol,destination=/x/", named("vol")),
        ("type=volume,src=,dst=/x,volume-driver=local", MountSource::Anonymous),
        ("type=tmpfs,dst=/x,tmpfs-size=64m,tmpfs-mode=0770", memory(Some(64 << 20), Some(0o770), &[])),
        ("type=bind,\"src=/a,\"\"b\"\"\",dst=/x", bind("/a,\"b\"", false)),
        ("type=bind,src=/a,dst=/x,readonly=false", bind("/a", false)),
    ] {
        let found = MountRequest { tuning: Tuning::default(), ..mount(spec, here())? };
        assert_eq!(found, request(source, "/x"), "{spec}");
    }
    for spec in ["dst=/x,readonly", "dst=/x,ro=1", "dst=/x,readonly=true"] {
        assert!(mount(spec, here())?.read_only);
    }
    assert!(mount("src=vol,dst=/x,volume-nocopy", here())?.no_copy);
    let found = mount("type=bind,src=/a,dst=/x,bind-propagation=rshared", here())?;
    assert_eq!(found.propagation.as_deref(), Some("rshared"));
    Ok(())
}

#[test]
fn refused_mounts() {
    for (spec, error) in [
        ("bad", "invalid field 'bad' must be a key=value pair"),
        ("", "invalid field '' must be a key=value pair"),
        ("dst=/x,readonly=maybe", "invalid value for readonly: maybe"),
        ("dst=/x,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
        ("type=bind,src=/a", "target is required"),
        ("type=bind,dst=/x", "invalid mount config for type \"bind\": field Source must not be empty"),
        ("type=tmpfs,src=/a,dst=/x", "invalid mount config for type \"tmpfs\": field Source must not be specified"),
        (
            "type=bind,src=rel,dst=/x",
            "invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
        ),
        ("dst=/", "invalid mount config for type \"volume\": invalid specification: destination can't be '/'"),
        ("type=zork,dst=/x", "invalid mount config for type \"zork\": mount type unknown"),
        ("dst=/x,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'volume'"),
        ("type=tmpfs,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'tmpfs'"),
        ("type=bind,src=/a,dst=/x,bind-propagation=x", "invalid value for bind-propagation: x"),
        ("type=tmpfs,dst=/x,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ("type=tmpfs,dst=/x,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ("dst=/x,volume-subpath=../a", "invalid volume subpath \"../a\": it must be relative and stay in the volume"),
        ("dst=/x,volume-driver=nosuch", "error looking up volume plugin nosuch: plugin \"nosuch\" not found"),
        (
            "dst=/x,volume-opt=type=tmpfs",
            "invalid mount config for type \"volume\": missing required option: \"device\"",
        ),
        (
            "type=bind,src=/a,dst=/x,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
        ),
        (
            "type=bind,src=/a,dst=/x,ro,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
        ),
        ("dst=\"/x", "parse error on line 1: bare \" in non-quoted field"),
        ("\"dst=/x", "parse error on line 1: extraneous or missing \" in quoted field"),
    ] {
        assert_eq!(message(mount(spec, here())), error);
    }
}

#[test]
fn memory_mounts() -> Result<()> {
    for (spec, source) in [
        ("/run", memory(None, None, &[])),
        ("/run:", memory(None, None, &[])),
        ("/run:rw,size=64m,mode=1777", memory(Some(64 << 20), Some(0o1777), &[])),
        ("/run/:exec,uid=5,size=50%", memory(None, None, &["exec", "uid=5", "size=50%"])),
    ] {
        assert_eq!(MountRequest { tuning: Tuning::default(), ..tmpfs(spec)? }, request(source, "/run"), "{spec}");
    }
    assert!(tmpfs("/run:ro,noexec")?.read_only);
    assert!(!tmpfs("/run:ro,rw")?.read_only);
    for word in ["zz", "size=x", "mode=8", "bind", "uid=", "a=b", "size=x%", "size"] {
        assert_eq!(message(tmpfs(&format!("/run:{word}"))), format!("invalid tmpfs option \"{word}\""));
    }
    let error = "invalid mount config for type \"tmpfs\": invalid mount path: 'run' mount path must be absolute";
    assert_eq!(message(tmpfs("run")), error);
    Ok(())
}

#[test]
fn duplicates() -> Result<()> {
    let mut mounts = vec![volume("/a:/x", here())?, tmpfs("/y")?];
    check_duplicates(&mounts)?;
    mounts.push(mount("dst=/x/../x", here())?);
    assert_eq!(check_duplicates(&mounts).unwrap_err().to_string(), "Duplicate mount point: /x");
    Ok(())
}

proptest! {
    #[test]
    fn targets_are_always_clean(text: String, shaped in "[./a-z:,=\"]{0,24}", path in "/[./a-z]{0,16}") {
        let mount_of_path = format!("type=bind,src={path},dst={path}");
        let found = [volume(&text, here()), volume(&shaped, here()), volume(&format!("{path}:{path}"), here()),
            mount(&text, here()), mount(&shaped, here()), mount(&mount_of_path, here()), tmpfs(&text), tmpfs(&shaped), tmpfs(&path)];
        for request in found.into_iter().flatten() {
            let target = request.target;
            prop_assert!(target.starts_with('/') && target.len() > 1 && !target.ends_with('/'));
            prop_assert!(target[1..].split('/').all(|part| !["", ".", ".."].contains(&part)));
        }
    }
}
