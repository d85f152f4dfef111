//! Files as they are chosen and dropped: lists, folders, and whether they are images.

use js_sys::{Array, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{DataTransfer, File, FileList, FileSystemDirectoryEntry, FileSystemEntry, FileSystemFileEntry};

use super::engine::in_words;

/// Most files that are taken out of a folder.
const MOST: usize = 200_000;

/// Files of a list.
pub fn of_list(list: Option<FileList>) -> Vec<File> {
    let Some(list) = list else { return Vec::new() };
    (0..list.length()).filter_map(|i| list.get(i)).collect()
}

/// Chosen files with their paths: in a chosen folder, from that folder on.
pub fn with_paths(files: Vec<File>) -> Vec<(String, File)> {
    let path = |file: &File| {
        let relative = Reflect::get(file, &"webkitRelativePath".into()).ok().and_then(|p| p.as_string());
        relative.filter(|p| !p.is_empty()).unwrap_or_else(|| file.name())
    };
    inside(files.into_iter().map(|file| (path(&file), file)).collect())
}

/// Drops what is no one's data (files that begin with a dot), and the folder that holds all the others: what is chosen is the folder of
/// the classes, and what is below it names them.
fn inside<T>(files: Vec<(String, T)>) -> Vec<(String, T)> {
    let hidden = |path: &str| path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX");
    let mut files: Vec<_> = files.into_iter().filter(|(path, _)| !hidden(path)).collect();
    let top = |path: &str| path.split_once('/').map(|(top, _)| top.to_string());
    if let Some(first) = files.first().and_then(|(path, _)| top(path))
        && files.iter().all(|(path, _)| top(path).as_ref() == Some(&first))
    {
        files.iter_mut().for_each(|(path, _)| *path = path[first.len() + 1..].to_string());
    }
    files
}

/// Whether names are those of images, or of files that hold nothing else; names that a model might have are not.
pub fn are_images<'a>(names: impl IntoIterator<Item = &'a str>) -> bool {
    let is_image = |name: &str| {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let picture = [".png", ".jpg", ".jpeg", ".webp"].iter().any(|e| name.ends_with(e));
        picture || name.ends_with("-ubyte") || name.ends_with(".idx") || name.ends_with("_batch.bin") || name.starts_with("data_batch_")
    };
    let mut names = names.into_iter().peekable();
    names.peek().is_some() && names.all(is_image)
}

/// Whether this is one file, with the name of a recipe.
pub fn is_recipe<'a>(names: impl IntoIterator<Item = &'a str>) -> bool {
    let mut names = names.into_iter();
    names.next().is_some_and(|name| name.to_ascii_lowercase().ends_with(".json")) && names.next().is_none()
}

/// What was dropped. A drop's contents have to be asked for at once; folders are read later.
pub struct Dropped {
    items: Vec<(Option<FileSystemEntry>, Option<File>)>,
}

impl Dropped {
    /// Takes a drop's contents.
    pub fn new(transfer: Option<DataTransfer>) -> Dropped {
        let Some(transfer) = transfer else { return Dropped { items: Vec::new() } };
        let list = transfer.items();
        let items = (0..list.length()).filter_map(|i| list.get(i)).filter(|item| item.kind() == "file");
        Dropped { items: items.map(|item| (item.webkit_get_as_entry().ok().flatten(), item.get_as_file().ok().flatten())).collect() }
    }

    /// Whether it is a folder, or images.
    pub fn is_images(&self) -> bool {
        let folder = self.items.iter().any(|(entry, _)| entry.as_ref().is_some_and(|e| e.is_directory()));
        let names: Vec<String> = self.items.iter().filter_map(|(_, file)| file.as_ref().map(|f| f.name())).collect();
        folder || are_images(names.iter().map(String::as_str))
    }

    /// The recipe, if it is one.
    pub fn recipe(&self) -> Option<File> {
        let names: Vec<String> = self.items.iter().filter_map(|(_, file)| file.as_ref().map(|f| f.name())).collect();
        let one = self.items.len() == 1 && is_recipe(names.iter().map(String::as_str));
        self.items.iter().find_map(|(_, file)| file.clone()).filter(|_| one)
    }

    /// The files, without folders.
    pub fn files(self) -> Array {
        self.items.into_iter().filter_map(|(_, file)| file).collect()
    }

    /// The files, those in folders too, with their paths.
    ///
    /// # Errors
    /// A folder that cannot be read: one sentence.
    pub async fn all(self) -> Result<Vec<(String, File)>, String> {
        let mut found = Vec::new();
        let mut folders: Vec<FileSystemDirectoryEntry> = Vec::new();
        for (entry, file) in self.items {
            match (entry, file) {
                (Some(entry), _) if entry.is_directory() => folders.push(entry.unchecked_into()),
                (entry, Some(file)) => found.push((entry.map_or_else(|| file.name(), |e| path_of(&e)), file)),
                (_, None) => {}
            }
        }
        while let Some(folder) = folders.pop() {
            let unreadable = |why: JsValue| format!("The folder {} cannot be read: {}.", folder.name(), in_words(why));
            let reader = folder.create_reader();
            loop {
                // A folder's entries come a hundred at a time, and in the end none.
                let entries = called_back(|done, failed| reader.read_entries_with_callback_and_callback(done, failed)).await;
                let entries: Array = entries.map_err(unreadable)?.unchecked_into();
                if entries.length() == 0 {
                    break;
                }
                for entry in entries.iter().map(JsCast::unchecked_into::<FileSystemEntry>) {
                    if entry.is_directory() {
                        folders.push(entry.unchecked_into());
                        continue;
                    }
                    let path = path_of(&entry);
                    let entry: FileSystemFileEntry = entry.unchecked_into();
                    let file = called_back(|done, failed| {
                        entry.file_with_callback_and_callback(done, failed);
                        Ok(())
                    });
                    found.push((path, file.await.map_err(unreadable)?.unchecked_into()));
                    if found.len() > MOST {
                        return Err(format!("The folder has more than {MOST} files; choose a part of it."));
                    }
                }
            }
        }
        // Folders are read in no order of their own.
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(inside(found))
    }
}

fn path_of(entry: &FileSystemEntry) -> String {
    entry.full_path().trim_start_matches('/').to_string()
}

/// Waits for one of two callbacks.
async fn called_back(call: impl FnOnce(&js_sys::Function, &js_sys::Function) -> Result<(), JsValue>) -> Result<JsValue, JsValue> {
    let mut call = Some(call);
    let promise = Promise::new(&mut |resolve, reject| {
        if let Some(Err(e)) = call.take().map(|call| call(&resolve, &reject)) {
            let _ = reject.call1(&JsValue::UNDEFINED, &e);
        }
    });
    JsFuture::from(promise).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_below_the_folder_that_was_chosen() {
        let paths = |list: &[&str]| -> Vec<String> {
            inside(list.iter().map(|p| (p.to_string(), ())).collect()).into_iter().map(|(path, ())| path).collect()
        };
        assert_eq!(paths(&["val/cat/1.png", "val/dog/2.png"]), ["cat/1.png", "dog/2.png"]);
        assert_eq!(paths(&["cat/1.png", "dog/2.png"]), ["cat/1.png", "dog/2.png"], "two folders are two classes");
        assert_eq!(paths(&["cat/1.png", "cat/2.png"]), ["1.png", "2.png"]);
        assert_eq!(paths(&["val/cat/1.png", "2.png"]), ["val/cat/1.png", "2.png"]);
        assert_eq!(paths(&["val/.DS_Store", "val/a/.x/1.png", "val/a/1.png", "__MACOSX/1.png"]), ["a/1.png"]);
        assert_eq!(paths(&["val/cat/1.png", "validation/cat/1.png"]), ["val/cat/1.png", "validation/cat/1.png"]);
        assert_eq!(paths(&["a.npz"]), ["a.npz"]);
        assert!(paths(&[]).is_empty());
    }

    #[test]
    fn recipes_are_known_by_their_names() {
        assert!(is_recipe(["net.recipe.json"]) && is_recipe(["A.JSON"]));
        for names in [&["a.onnx"][..], &["a.json", "b.json"], &["json"], &[]] {
            assert!(!is_recipe(names.iter().copied()), "{names:?}");
        }
    }

    #[test]
    fn images_are_known_by_their_names() {
        assert!(are_images(["a.png", "b.JPG", "c.jpeg", "d.webp"]));
        assert!(are_images(["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"]));
        assert!(are_images(["data_batch_1.bin", "test_batch.bin"]));
        for model in ["a.onnx", "weights.bin", "a.npz", "a.pth", "a.zip", "png"] {
            assert!(!are_images([model]) && !are_images(["a.png", model]), "{model}");
        }
        assert!(!are_images([]));
    }
}
