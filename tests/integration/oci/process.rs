//! What a process gets: environment, capabilities, descriptors.

use crate::threats::bundle::Bundle;
use serde_json::json;

#[test]
fn the_last_of_several_values_of_a_variable_counts_and_home_is_never_empty() {
    let mut b = Bundle::new();
    b.config["process"]["env"] = json!(["PATH=/nowhere", "A=1", "B=x", "A=2", "HOME=", "PATH=/bin"]);
    assert_eq!(b.run(&["/usr/bin/env"]).out, "B=x\nA=2\nPATH=/bin\nHOME=/root\n");
    b.start_sleeping();
    let result = b.exec(&["--env", "A=3", "-e", "HOME=/h", "--env", "B="], &["/usr/bin/env"]);
    assert_eq!(result.out, "PATH=/bin\nA=3\nHOME=/h\nB=\n", "{result:?}");
}
