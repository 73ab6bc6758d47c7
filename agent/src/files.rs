//! Serves source files of this host to coordinators, which plan what they cannot see themselves: lists, and small parts
//! of files. Only what lies below a root that this agent was told it may read can be named, links resolved; without a
//! root, nothing. Chunks are read by the agent itself and never come this way.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use thunderhead_config::uri::is_store;
use thunderhead_config::{ListedFile, list_directory};
use thunderhead_proto::thunderhead::{
    FileBytes, FileEntry, FilePage, ListFiles, ReadFile, files_server::Files,
};
use thunderhead_source::side_by_side;
use thunderhead_types::crc64;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// What is read at a time.
const READ_MAX: u32 = 1 << 20;
/// Files in a message.
const PAGE: usize = 1000;
/// First and last bytes of a file that tell one content from another of the same size and time.
const MARK_BYTES: u64 = 4 << 10;
/// Files that are looked at side by side.
const FILES_AT_ONCE: usize = 8;

/// See the module.
#[derive(Clone)]
pub(crate) struct FileServer {
    roots: Arc<Vec<PathBuf>>,
}

impl FileServer {
    /// `readable` as the agent announces it.
    pub(crate) fn new(readable: &[String]) -> Self {
        let paths = readable.iter().filter(|root| !is_store(root));
        let roots = paths.filter_map(|root| std::path::absolute(root).ok());
        Self {
            roots: Arc::new(roots.collect()),
        }
    }

    /// What is listed when a coordinator asks for `root`: it, or the parts of it that may be read. None of them lies
    /// inside of another.
    fn parts_of(&self, root: &Path) -> Vec<PathBuf> {
        if self.roots.iter().any(|own| root.starts_with(own)) {
            return vec![root.to_owned()];
        }
        let inside = self.roots.iter().filter(|own| own.starts_with(root));
        let mut parts: Vec<PathBuf> = inside.cloned().collect();
        parts.sort();
        parts.dedup_by(|later, earlier| later.starts_with(&*earlier));
        parts
    }

    /// Where `path` really is, when it may be read.
    fn resolve(&self, path: &Path) -> Result<PathBuf, Status> {
        let denied = || Status::permission_denied("this agent was not told that it may read that");
        if !is_plain(path) || !self.roots.iter().any(|own| path.starts_with(own)) {
            return Err(denied());
        }
        let real = path.canonicalize().map_err(|e| io_status(path, &e))?;
        let mut roots = self.roots.iter().filter_map(|own| own.canonicalize().ok());
        match roots.any(|own| real.starts_with(own)) {
            true => Ok(real),
            false => Err(denied()),
        }
    }

    fn list_below(&self, root: &Path) -> Result<Vec<FileEntry>, Status> {
        let mut found: Vec<ListedFile> = Vec::new();
        for part in self.parts_of(root) {
            let real = match self.resolve(&part) {
                Err(status) if status.code() == tonic::Code::NotFound => continue,
                real => real?,
            };
            let below = part.strip_prefix(root).unwrap_or(Path::new(""));
            let metadata = std::fs::metadata(&real).map_err(|e| io_status(&real, &e))?;
            if metadata.is_file() {
                let name = below.to_string_lossy().into_owned();
                found.push(ListedFile::local(name, real, &metadata));
                continue;
            }
            let (_, files, _) = list_directory(&real)
                .map_err(|error| Status::failed_precondition(error.to_string()))?;
            found.extend(files.into_iter().map(|file| ListedFile {
                name: below.join(&file.name).to_string_lossy().into_owned(),
                ..file
            }));
        }
        let entries: Result<_, Status> = side_by_side(found.len(), FILES_AT_ONCE, |n| {
            let file = &found[n];
            let mark = mark_of(file).map_err(|e| io_status(&file.path, &e))?;
            Ok(FileEntry {
                name: file.name.clone(),
                size: file.size,
                modified_ns: file.mtime_ns,
                mark,
            })
        });
        let mut entries: Vec<FileEntry> = entries?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read_part(&self, request: &ReadFile) -> Result<Vec<u8>, Status> {
        if request.length > READ_MAX {
            let why = format!("more than {READ_MAX} bytes at a time");
            return Err(Status::invalid_argument(why));
        }
        let path = self.resolve(Path::new(&request.path))?;
        let failed = |e: io::Error| io_status(&path, &e);
        // Before it is opened: a pipe would wait for whoever writes to it.
        if !std::fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(Status::permission_denied("this is no file"));
        }
        let file = File::open(&path).map_err(failed)?;
        let mut data = vec![0; request.length as usize];
        let mut filled = 0;
        while filled < data.len() {
            let at = request.offset.saturating_add(filled as u64);
            match file.read_at(&mut data[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        data.truncate(filled);
        let now = file.metadata().map_err(failed)?;
        let modified_ns = now.mtime().saturating_mul(1_000_000_000) + now.mtime_nsec();
        if (now.len(), modified_ns) != (request.size, request.modified_ns) {
            return Err(Status::aborted("the file changed after it was listed"));
        }
        Ok(data)
    }
}

/// Absolute, and nowhere upwards.
fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn mark_of(file: &ListedFile) -> io::Result<u64> {
    let open = File::open(&file.path)?;
    let head = MARK_BYTES.min(file.size);
    let tail = MARK_BYTES.min(file.size - head);
    let mut bytes = vec![0; (head + tail) as usize];
    let (first, last) = bytes.split_at_mut(head as usize);
    open.read_exact_at(first, 0)?;
    open.read_exact_at(last, file.size - tail)?;
    Ok(crc64(first, last))
}

fn io_status(path: &Path, error: &io::Error) -> Status {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(text),
        _ => Status::failed_precondition(text),
    }
}

#[tonic::async_trait]
impl Files for FileServer {
    type ListStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<FilePage, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<ListFiles>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let root = PathBuf::from(request.into_inner().root);
        if !is_plain(&root) {
            return Err(Status::invalid_argument("the directory must be absolute"));
        }
        let (this, (to, pages)) = (self.clone(), mpsc::channel(1));
        tokio::task::spawn_blocking(move || match this.list_below(&root) {
            Ok(entries) => {
                for page in entries.chunks(PAGE) {
                    let files = page.to_vec();
                    if to.blocking_send(Ok(FilePage { files })).is_err() {
                        return;
                    }
                }
            }
            Err(status) => drop(to.blocking_send(Err(status))),
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(pages))))
    }

    async fn read(&self, request: Request<ReadFile>) -> Result<Response<FileBytes>, Status> {
        let (this, request) = (self.clone(), request.into_inner());
        let read = tokio::task::spawn_blocking(move || this.read_part(&request)).await;
        let data = read.map_err(|panic| Status::internal(panic.to_string()))??;
        Ok(Response::new(FileBytes { data: data.into() }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tonic::Code;

    fn names(server: &FileServer, root: &Path) -> Vec<String> {
        let entries = server.list_below(root).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    fn ask(server: &FileServer, path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, Status> {
        let (size, modified_ns) = fs::metadata(path).map_or((0, 0), |m| {
            (m.len(), m.mtime() * 1_000_000_000 + m.mtime_nsec())
        });
        server.read_part(&ReadFile {
            path: path.display().to_string(),
            offset,
            length,
            size,
            modified_ns,
        })
    }

    #[test]
    fn only_what_lies_below_a_readable_root_can_be_named() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for name in ["data/a/1", "data/b/2", "data/3", "data-2/4", "secret"] {
            let path = base.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let root = |name: &str| base.join(name).display().to_string();
        let all = FileServer::new(&[root("data"), "s3://b/k".to_owned()]);
        assert_eq!(names(&all, &base.join("data")), ["3", "a/1", "b/2"]);
        assert_eq!(names(&all, &base.join("data/a")), ["1"]);
        assert_eq!(names(&all, &base), ["data/3", "data/a/1", "data/b/2"]);
        assert_eq!(ask(&all, &base.join("data/a/1"), 0, 4).unwrap(), b"data");
        assert_eq!(ask(&all, &base.join("data/a/1"), 5, 1000).unwrap(), b"a/1");
        let part = FileServer::new(&[root("data/b"), root("missing")]);
        assert_eq!(names(&part, &base.join("data")), ["b/2"]);
        assert!(names(&FileServer::new(&[]), &base.join("data")).is_empty());
        symlink(base.join("secret"), base.join("data/link")).unwrap();
        let up = base.join("data/../secret");
        for (server, path) in [
            (&all, base.join("secret")),
            (&all, base.join("data/link")),
            (&all, base.join("data-2/4")),
            (&all, up),
            (&all, base.join("data")),
            (&part, base.join("data/3")),
            (&FileServer::new(&[]), base.join("data/3")),
        ] {
            let refused = ask(server, &path, 0, 1).unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, "{}", path.display());
        }
        // As for an import that reads the directory itself.
        assert!(all.list_below(&base.join("data")).is_err());
    }

    #[test]
    fn what_changed_after_it_was_listed_is_not_read_and_has_another_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("f");
        let root = path.parent().unwrap();
        let server = FileServer::new(&[root.display().to_string()]);
        let mark_with = |at: usize| {
            let mut bytes = vec![b'x'; 100_000];
            bytes[at] = b'y';
            fs::write(&path, bytes).unwrap();
            server.list_below(root).unwrap()[0].mark
        };
        assert_eq!(mark_with(50_000), mark_with(40_000));
        let marks = [
            mark_with(0),
            mark_with(4095),
            mark_with(96_000),
            mark_with(99_999),
        ];
        let different: std::collections::BTreeSet<u64> = marks.into_iter().collect();
        assert_eq!(different.len(), 4);
        let listed = &server.list_below(root).unwrap()[0];
        fs::write(&path, "other").unwrap();
        let changed = server.read_part(&ReadFile {
            path: path.display().to_string(),
            offset: 0,
            length: 1,
            size: listed.size,
            modified_ns: listed.modified_ns,
        });
        assert_eq!(changed.unwrap_err().code(), Code::Aborted);
        let large = ask(&server, &path, 0, READ_MAX + 1).unwrap_err();
        assert_eq!(large.code(), Code::InvalidArgument);
    }
}
