use super::*;
use proptest::prelude::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_string()).collect()
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn sizes() -> Result<()> {
    for (text, expected) in [
        ("0", 0),
        ("32", 32),
        ("32b", 32),
        ("32k", 32 << 10),
        ("32 KB", 32 << 10),
        ("32kib", 32 << 10),
        ("1.5g", 3 << 29),
        ("512m", 512 << 20),
        ("1P", 1 << 50),
        ("0.5", 0),
    ] {
        assert_eq!(bytes(text)?, expected, "{text}");
    }
    for text in
        ["", "x", "-1", "-1k", "1x", "1kx", "1ib", "1bb", "k", "1 2", " 32", "32  k", "99999999p", ".", "1é", "inf1"]
    {
        assert_eq!(message(bytes(text)), format!("invalid size: '{text}'"));
    }
    Ok(())
}

#[test]
fn memory() -> Result<()> {
    assert_eq!(memory_limit("6m")?, MIN_MEMORY);
    assert_eq!(memory_limit("0")?, 0);
    assert_eq!(message(memory_limit("5m")), "Minimum memory limit allowed is 6MB.");
    assert_eq!(memory_swap("-1")?, -1);
    assert_eq!(memory_swap("1k")?, 1024);
    assert_eq!(message(memory_swap("-2")), "invalid size: '-2'");
    Ok(())
}

#[test]
fn processors() -> Result<()> {
    for (text, expected) in
        [("1.5", 1_500_000_000), ("0", 0), ("2", 2 * BILLION), (".5", 500_000_000), ("0.01", 10_000_000)]
    {
        assert_eq!(cpus(text, 2)?, expected, "{text}");
    }
    let range = "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available.";
    for text in ["2.1", "0.001", "99999999999999999999"] {
        assert_eq!(message(cpus(text, 2)), range, "{text}");
    }
    for text in ["", ".", "x", "-1", "1.x", "+1"] {
        assert_eq!(message(cpus(text, 2)), format!("failed to parse {text} as a rational number"));
    }
    assert_eq!(message(cpus("1.0000000001", 2)), "value is too precise");
    Ok(())
}

#[test]
fn ulimits() -> Result<()> {
    for (text, soft, hard) in
        [("nofile=1024:2048", 1024, 2048), ("nofile=5", 5, 5), ("nofile=-1", -1, -1), ("nofile=7:-1", 7, -1)]
    {
        assert_eq!(ulimit(text)?, Ulimit { name: "nofile".into(), soft, hard });
    }
    for (text, error) in [
        ("nofile", "invalid ulimit argument: nofile"),
        ("nofile=", "invalid ulimit argument: nofile="),
        ("nofile=x", "invalid ulimit argument: nofile=x"),
        ("nofile=-2", "invalid ulimit argument: nofile=-2"),
        ("zork=1", "invalid ulimit type: zork"),
        ("nofile=1:2:3", "too many limit values - 1:2:3, can only have up to two, `soft[:hard]`"),
        ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        ("nofile=-1:1", "ulimit soft limit must be less than or equal to hard limit: -1 > 1"),
    ] {
        assert_eq!(message(ulimit(text)), error);
    }
    Ok(())
}

#[test]
fn signals() -> Result<()> {
    for (text, expected) in [
        ("SIGTERM", 15),
        ("term", 15),
        ("15", 15),
        ("KILL", 9),
        ("sys", 31),
        ("SIGUSR2", 12),
        ("WINCH", 28),
        ("RTMIN", 34),
        ("RTMIN+1", 35),
        ("SIGRTMAX-1", 63),
        ("64", 64),
        ("IOT", 6),
    ] {
        assert_eq!(signal(text)?, expected, "{text}");
    }
    for text in ["NOPE", "", "0", "65", "-1", "SIG", "RTMIN+31", "RTMIN-1", "RTMAX-31", "RTMAX+1", "RTMIN+", "TERM "] {
        assert_eq!(message(signal(text)), format!("Invalid signal: {text}"));
    }
    Ok(())
}

#[test]
fn restart_policies() -> Result<()> {
    for (text, expected) in [
        ("", RestartPolicy::No),
        ("no", RestartPolicy::No),
        ("always", RestartPolicy::Always),
        ("always:0", RestartPolicy::Always),
        ("unless-stopped", RestartPolicy::UnlessStopped),
        ("on-failure", RestartPolicy::OnFailure(0)),
        ("on-failure:3", RestartPolicy::OnFailure(3)),
    ] {
        assert_eq!(restart(text)?, expected);
    }
    for (text, error) in [
        (":3", "format: no policy provided before colon"),
        ("on-failure:x", "format: maximum retry count must be an integer"),
        ("on-failure:1:2", "format: maximum retry count must be an integer"),
        ("on-failure:-1", "maximum retry count cannot be negative"),
        ("always:3", "maximum retry count can only be used with 'on-failure'"),
        ("never", "unknown policy 'never'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"),
    ] {
        assert!(message(restart(text)).ends_with(error), "{text}");
    }
    Ok(())
}

#[test]
fn names() -> Result<()> {
    assert_eq!(container_name("/web.1_a-b")?, "web.1_a-b");
    let error = "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed.";
    assert_eq!(message(container_name("a")), error);
    for text in ["", "/", "_ab", "a b", "a/b", "é1", "ab\n"] {
        assert!(container_name(text).is_err(), "{text}");
    }
    assert_eq!(hostname("web-1.example")?, "web-1.example");
    for text in ["", "-a", "a b", "a\n", &"a".repeat(65)] {
        assert_eq!(message(hostname(text)), format!("invalid hostname format: {text}"));
    }
    Ok(())
}

#[test]
fn capabilities() -> Result<()> {
    for (text, expected) in [("net_admin", "CAP_NET_ADMIN"), ("CAP_BPF", "CAP_BPF"), ("all", "ALL"), ("cap_all", "ALL")]
    {
        assert_eq!(capability("CapAdd", text)?, expected);
    }
    for text in ["nosuch", "CAP_NOSUCH"] {
        assert_eq!(message(capability("CapDrop", text)), "invalid CapDrop: unknown capability: \"CAP_NOSUCH\"");
    }
    Ok(())
}

#[test]
fn security() -> Result<()> {
    for (text, privileges, unmasked) in [
        ("no-new-privileges", true, false),
        ("no-new-privileges:true", true, false),
        ("no-new-privileges=true", true, false),
        ("no-new-privileges:false", false, false),
        ("systempaths=unconfined", false, true),
        ("seccomp=unconfined", false, false),
        ("seccomp:unconfined", false, false),
        ("apparmor=unconfined", false, false),
        ("label=disable", false, false),
        ("label:type:svirt_t", false, false),
    ] {
        let found = security_opts(&strings(&[text]))?;
        assert_eq!((found.no_new_privileges, found.unmasked_paths), (privileges, unmasked), "{text}");
    }
    for (text, error) in [
        ("x", "invalid --security-opt 1: \"x\""),
        ("x=y", "invalid --security-opt 2: \"x=y\""),
        ("no-new-privileges:maybe", "invalid --security-opt 2: \"no-new-privileges:maybe\""),
        ("systempaths=x", "invalid --security-opt 2: \"systempaths=x\""),
        ("seccomp=/none.json", "opening seccomp profile (/none.json) failed"),
    ] {
        assert_eq!(message(security_opts(&strings(&[text]))), error);
    }
    let profile = security_opts(&strings(&["apparmor=mine"]));
    match apparmor::is_enabled() {
        true => assert_eq!(profile?.apparmor.as_deref(), Some("mine")),
        false => assert_eq!(message(profile), "AppArmor is not enabled on this host, so there is no profile mine"),
    }
    Ok(())
}

#[test]
fn logs() -> Result<()> {
    assert_eq!(log_opts(&[])?.0, LogOptions::default());
    let found = log_opts(&strings(&["max-size=10k", "max-file=2", "mode=blocking"]))?.0;
    assert_eq!(found, LogOptions { max_size: 10_000, max_files: 2 });
    for (text, error) in [
        ("max-size=0", "max-size must be a positive number"),
        ("max-size=-1", "invalid size: '-1'"),
        ("max-size", "invalid size: ''"),
        ("max-file=0", "max-file cannot be less than 1"),
        ("max-file=x", "invalid max-file: 'x'"),
        ("labls=x", "unknown log opt 'labls' for json-file log driver"),
    ] {
        assert_eq!(message(log_opts(&strings(&[text]))), error);
    }
    Ok(())
}

#[test]
fn detaching() -> Result<()> {
    for (text, expected) in [
        ("ctrl-p,ctrl-q", &[16, 17][..]),
        ("", &[16, 17]),
        ("a,ctrl-@", &[b'a', 0]),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[27, 28, 29, 30, 31]),
    ] {
        assert_eq!(detach_keys(text)?, expected, "{text}");
    }
    assert_eq!(message(detach_keys("a,foo")), "invalid detach keys (a,foo): Unknown character: 'foo'");
    for text in [",", "ctrl-A", "ctrl-pp", "é"] {
        assert!(detach_keys(text).is_err(), "{text}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn never_panics(text: String, shaped in "[-+0-9.:=a-z ]{0,12}", list in prop::collection::vec(any::<String>(), 0..5)) {
        for text in [&text, &shaped] {
            let _ = (bytes(text), memory_limit(text), cpus(text, 4), signal(text), restart(text));
            let _ = (ulimit(text), ulimit(&format!("nofile={text}")), capability("CapAdd", text), hostname(text));
            let _ = (container_name(text), detach_keys(text));
            let _ = log_opts(&[format!("max-size={text}")]);
        }
        let _ = (security_opts(&list), log_opts(&list));
    }
}
