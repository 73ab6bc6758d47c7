//! A store's import directory: names, temporary files and orphans. Knows nothing of regions' state
//! beyond the epochs in the names.

use crate::engine::{Cf, SstFile};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use thunderhead_proto::import_sstpb::SstMeta;

/// See the module.
pub(crate) struct ImportDir {
    root: PathBuf,
    /// Files that an ingest in flight works on.
    latched: Mutex<HashSet<PathBuf>>,
    /// Files that a client built; they are worth a closer look.
    uploaded: Mutex<HashSet<PathBuf>>,
}

/// What a file name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameParts {
    pub region: u64,
    pub conf_ver: u64,
    pub version: u64,
}

/// Keeps others from ingesting the same files; released on drop.
pub(crate) struct Latch<'a> {
    dir: &'a ImportDir,
    paths: Vec<PathBuf>,
}

impl Drop for Latch<'_> {
    fn drop(&mut self) {
        let mut latched = self.dir.latched.lock();
        for path in &self.paths {
            latched.remove(path);
        }
    }
}

impl ImportDir {
    /// Opens the directory as a restarted store does: unfinished files go, finished ones stay.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        let dir = Self {
            root,
            latched: Mutex::default(),
            uploaded: Mutex::default(),
        };
        dir.wipe_unfinished()?;
        Ok(dir)
    }

    pub(crate) fn wipe_unfinished(&self) -> io::Result<()> {
        for name in [".temp", ".clone"] {
            let path = self.root.join(name);
            if path.exists() {
                fs::remove_dir_all(&path)?;
            }
            fs::create_dir_all(&path)?;
        }
        Ok(())
    }

    /// Where the finished file of `meta` is or would be.
    pub(crate) fn path(&self, meta: &SstMeta) -> PathBuf {
        self.root.join(file_name(meta))
    }

    pub(crate) fn temp_path(&self, meta: &SstMeta) -> PathBuf {
        self.root.join(".temp").join(file_name(meta))
    }

    /// Moves a temporary file to its final name, durably.
    pub(crate) fn publish(&self, meta: &SstMeta) -> io::Result<()> {
        let temp = self.temp_path(meta);
        File::open(&temp)?.sync_all()?;
        fs::rename(&temp, self.path(meta))?;
        File::open(&self.root)?.sync_all()
    }

    /// Hard-links the file of `meta` to where RocksDB may take it from.
    pub(crate) fn clone_for_ingest(&self, meta: &SstMeta, cf: Cf) -> io::Result<SstFile> {
        let path = self.root.join(".clone").join(file_name(meta));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::hard_link(self.path(meta), &path)?;
        Ok(SstFile { cf, path })
    }

    pub(crate) fn mark_uploaded(&self, meta: &SstMeta) {
        self.uploaded.lock().insert(self.path(meta));
    }

    pub(crate) fn is_uploaded(&self, meta: &SstMeta) -> bool {
        self.uploaded.lock().contains(&self.path(meta))
    }

    /// Removes the finished file; it may be gone already.
    pub(crate) fn delete(&self, meta: &SstMeta) {
        let path = self.path(meta);
        self.uploaded.lock().remove(&path);
        let _ = fs::remove_file(path);
    }

    /// Locks the files for one ingest; `None` when another holds one of them.
    pub(crate) fn latch(&self, metas: &[SstMeta]) -> Option<Latch<'_>> {
        let paths: Vec<_> = metas.iter().map(|meta| self.path(meta)).collect();
        let mut latched = self.latched.lock();
        if paths.iter().any(|path| latched.contains(path)) {
            return None;
        }
        latched.extend(paths.iter().cloned());
        drop(latched);
        Some(Latch { dir: self, paths })
    }

    /// Write-family files under a latch; they count as files of level 0 to come.
    pub(crate) fn latched_write_files(&self) -> u64 {
        let latched = self.latched.lock();
        latched
            .iter()
            .filter(|path| path.to_string_lossy().ends_with("_write_2.sst"))
            .count() as u64
    }

    /// Finished files with what their names say.
    pub(crate) fn files(&self) -> io::Result<Vec<(PathBuf, Option<NameParts>)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "sst") {
                let parts = path
                    .file_stem()
                    .and_then(|stem| parse_name(&stem.to_string_lossy()));
                files.push((path, parts));
            }
        }
        Ok(files)
    }
}

/// `{uuid}_{region}_{conf_ver}_{version}_{cf}_2.sst`: the identity of an SST.
pub(crate) fn file_name(meta: &SstMeta) -> String {
    let epoch = meta.region_epoch.unwrap_or_default();
    let uuid = uuid_text(&meta.uuid);
    format!(
        "{uuid}_{}_{}_{}_{}_2.sst",
        meta.region_id, epoch.conf_ver, epoch.version, meta.cf_name
    )
}

fn uuid_text(uuid: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn parse_name(stem: &str) -> Option<NameParts> {
    let mut parts = stem.split('_').skip(1);
    let mut number = || parts.next()?.parse().ok();
    Some(NameParts {
        region: number()?,
        conf_ver: number()?,
        version: number()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thunderhead_proto::metapb::RegionEpoch;

    #[test]
    fn a_name_carries_uuid_region_epoch_and_family() {
        let meta = SstMeta {
            uuid: (0u8..16).collect::<Vec<_>>().into(),
            region_id: 40,
            region_epoch: Some(RegionEpoch {
                conf_ver: 5,
                version: 148,
            }),
            cf_name: "write".into(),
            ..Default::default()
        };
        let name = file_name(&meta);
        assert_eq!(
            name,
            "00010203-0405-0607-0809-0a0b0c0d0e0f_40_5_148_write_2.sst"
        );
        let parts = NameParts {
            region: 40,
            conf_ver: 5,
            version: 148,
        };
        assert_eq!(parse_name(name.strip_suffix(".sst").unwrap()), Some(parts));
    }
}
