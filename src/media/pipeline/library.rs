//! Where pipeline files are found: a path, then the folders of the user and the machine, then those built in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::template::{Complaint, LaunchFile, Part, unknown_name};

/// The environment variable that names a folder of pipeline files.
pub const FOLDER_VARIABLE: &str = "ROAMCAST_PIPELINES";

macro_rules! built_in {
    ($($part:ident: $($name:literal)+;)+) => {
        /// The pipeline files inside the program, so that it works alone.
        pub const BUILT_IN: &[(Part, &str, &str)] = &[$($(
            (Part::$part, $name, built_in!(@text $part $name)),
        )+)+];
    };
    (@text Video $name:literal) => { include_str!(concat!("../../../pipelines/video/", $name, ".launch")) };
    (@text Audio $name:literal) => { include_str!(concat!("../../../pipelines/audio/", $name, ".launch")) };
    (@text Encoder $name:literal) => { include_str!(concat!("../../../pipelines/encoder/", $name, ".launch")) };
}

built_in! {
    Video: "test" "file" "v4l2" "v4l2-mjpeg" "rtsp" "rtsp-passthrough" "pipewire" "screen" "libcamera";
    Audio: "test" "file" "pulse" "alsa" "pipewire" "silence";
    Encoder: "x264enc" "openh264enc" "vp8enc" "vp9enc" "v4l2h264enc" "vah264enc" "nvh264enc" "nvv4l2h264enc" "mpph264enc";
}

/// All pipeline files that a name can mean. A folder named earlier wins, and every folder wins over the program.
#[derive(Debug, Clone, Default)]
pub struct Library {
    folders: Vec<PathBuf>,
}

impl Library {
    /// `$ROAMCAST_PIPELINES`, `pipelines` next to the program, `/usr/share/roamcast/pipelines`.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let next_to_program = env::current_exe().ok().and_then(|program| Some(program.parent()?.join("pipelines")));
        let folders = env::var_os(FOLDER_VARIABLE)
            .map(PathBuf::from)
            .into_iter()
            .chain(next_to_program)
            .chain([PathBuf::from("/usr/share/roamcast/pipelines")])
            .collect();
        Self { folders }
    }

    /// These folders and the built-in files.
    #[must_use]
    pub const fn of_folders(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// The file that `name` means: a path if it has a slash or ends in `.launch`, else a name.
    ///
    /// # Errors
    /// No such file, an unreadable one, or one that breaks the contract.
    pub fn load(&self, part: Part, name: &str) -> Result<LaunchFile, Complaint> {
        if name.contains('/') || name.ends_with(".launch") {
            let text = fs::read_to_string(name).map_err(|error| unreadable(part, Path::new(name), &error))?;
            return LaunchFile::parse(part, name, &text);
        }
        for folder in &self.folders {
            let path = folder.join(part.folder()).join(name).with_extension("launch");
            match fs::read_to_string(&path) {
                Ok(text) => return LaunchFile::parse(part, name, &text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(part, &path, &error)),
            }
        }
        match BUILT_IN.iter().find(|(p, n, _)| *p == part && *n == name) {
            Some((_, _, text)) => LaunchFile::parse(part, name, text),
            None => Err(unknown_name(part, name, &self.names(part))),
        }
    }

    /// All names of this part, sorted.
    #[must_use]
    pub fn names(&self, part: Part) -> Vec<String> {
        let built_in = BUILT_IN.iter().filter(|(p, _, _)| *p == part).map(|(_, name, _)| (*name).to_owned());
        let mut names: BTreeSet<String> = built_in.collect();
        for folder in &self.folders {
            let Ok(entries) = fs::read_dir(folder.join(part.folder())) else { continue };
            let files = entries.flatten().map(|entry| entry.path());
            names.extend(
                files
                    .filter(|path| path.extension().is_some_and(|extension| extension == "launch"))
                    .filter_map(|path| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned)),
            );
        }
        names.into_iter().collect()
    }
}

fn unreadable(part: Part, path: &Path, error: &io::Error) -> Complaint {
    Complaint(format!("`{}`: `{}` cannot be read: {error}", part.config_key(), path.display()))
}
