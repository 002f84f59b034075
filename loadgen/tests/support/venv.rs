//! A Python with pinned packages, in a virtual environment that is made once and then kept. It decides
//! nothing: who asks says what it means that there is none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter's name, if there is one.
///
/// # Errors
/// A sentence that says that there is none.
pub fn interpreter() -> Result<&'static str, String> {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if found { Ok("python3") } else { Err("there is no python3".to_owned()) }
}

/// The interpreter of the environment `dir` with the packages that the file `pins` lists.
///
/// # Errors
/// Why it cannot be made, in a line.
pub fn environment(pins: &Path, dir: &Path) -> Result<PathBuf, String> {
    let lock = File::create(dir.with_extension("lock")).expect("the place is writable");
    lock.lock().expect("it can be locked, and is until the end of this function");
    let wanted = fs::read_to_string(pins).expect("the pins are there");
    let (python, seal) = (dir.join("bin/python"), dir.join("complete.txt"));
    if fs::read_to_string(&seal).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    let base = interpreter()?;
    let _ = fs::remove_dir_all(dir);
    run(Command::new(base).args(["-m", "venv"]).arg(dir))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    run(pip.arg(pins))?;
    fs::write(&seal, wanted).expect("the environment is writable");
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(text.trim().lines().last().unwrap_or_default().to_owned()),
    }
}
