//! The first start, killed at each call that it makes on the files of its data folder.

use std::process::Stdio;
use std::time::Duration;

use crate::world::{World, command_schedule, shim};

const LOOK: Duration = Duration::from_millis(2);

/// Runs it until it stands, or until it has ended.
fn stands(world: &World, fault: Option<(&std::path::Path, &str, u32)>) -> bool {
    let mut command = world.command(&["run", "-q"]);
    if let Some((library, call, number)) = fault {
        command.env("LD_PRELOAD", library).env("FAULT_FOLDER", world.path("data/")).env("FAULT_ERROR", "KILL");
        command.env("FAULT_CALL", call).env("FAULT_FIRST", number.to_string()).env("FAULT_LAST", number.to_string());
    }
    let errors = std::fs::File::create(world.path("run.err")).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
    let stood = loop {
        let ended = child.try_wait().unwrap().is_some();
        if ended || world.is_marked_by(child.id()) {
            break !ended;
        }
        std::thread::sleep(LOOK);
    };
    super::end(child);
    stood
}

#[test]
fn a_first_start_that_is_killed_at_any_call_on_its_files_keeps_no_later_one_from_standing() {
    let tools = tempfile::tempdir().unwrap();
    let Some(library) = shim(tools.path()) else {
        eprintln!("skipped: needs Linux and a C compiler `cc`");
        return;
    };
    let mut killed = 0;
    for call in ["open", "write", "sync", "truncate", "unlink"] {
        for number in 1.. {
            let world = World::with(&command_schedule("a", "true", ""));
            if stands(&world, Some((&library, call, number))) {
                break;
            }
            killed += 1;
            let stood = stands(&world, None);
            let errors = std::fs::read_to_string(world.path("run.err")).unwrap();
            assert!(stood, "killed at {call} {number}: {errors}");
            world.ok(&["audit"]);
        }
    }
    assert!(killed > 50, "only {killed} calls");
}
