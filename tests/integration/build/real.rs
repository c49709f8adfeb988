//! Builds as people have them: Debian's own packages, from the package source that this machine uses.

use super::{parts_cached, parts_done};
use crate::support::{Store, fixture};

const C: &str = "#include <stdio.h>\nint main(void) { puts(\"built by gcc\"); return 0; }\n";

#[test]
fn a_program_is_compiled_in_one_stage_and_shipped_in_another() {
    let store = Store::empty();
    store.ok(&["import", fixture("debian.tar").to_str().unwrap(), "debian"]);
    let dockerfile = "FROM debian AS build\n\
        RUN apt-get -q update && apt-get -qy install --no-install-recommends gcc libc6-dev >/dev/null\n\
        WORKDIR /src\nCOPY hello.c .\nRUN gcc -O2 -static -o hello hello.c\nCMD [\"./hello\"]\n\
        FROM scratch\nCOPY --from=build /src/hello /hello\nCMD [\"/hello\"]\n";
    let dir = store.context("context", dockerfile);
    std::fs::write(dir.join("hello.c"), C).unwrap();
    // How packages are got here is no part of the image.
    let host = ["--network", "host", "-v", "/etc/apt:/etc/apt:ro", "-v", "/usr/share/keyrings:/usr/share/keyrings:ro"];
    store.builds(dockerfile, &[&host[..], &["-t", "two"]].concat());
    let one = store.builds(dockerfile, &[&host[..], &["-t", "one", "--target", "build"]].concat());
    assert_eq!(parts_done(&one), 0, "{one}");
    let size = |name: &str| store.inspect(name, "{{.Size}}").parse::<u64>().unwrap();
    assert!(size("one") > 100 * size("two"), "{} {}", size("one"), size("two"));
    for image in ["one", "two"] {
        assert_eq!(store.ok(&["run", "--rm", image]), "built by gcc");
    }
    // Another program needs the compiler, but not its installation.
    std::fs::write(dir.join("hello.c"), C.replace("gcc", "Debian")).unwrap();
    let again = store.builds(dockerfile, &[&host[..], &["-t", "two"]].concat());
    assert_eq!((parts_cached(&again), parts_done(&again)), (3, 3), "{again}");
    assert_eq!(store.ok(&["run", "--rm", "two"]), "built by Debian");
}
