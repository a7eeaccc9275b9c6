//! Fetches, unpacks and loads CIFAR-10 and ISIC 2017 from the mirror folder, and draws batches.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{mirror, options};
use wgrad_data::catalog::Entry;
use wgrad_data::{
    Augment, Data, DataError, Dataset, FetchOptions, IsicData, Loader, LoaderOptions, Normalize, Origin,
    PixelData, Targets, load_from,
};

/// Fetches a data set of the catalogue from the mirror into `data_dir`.
fn get(name: &str, mirror: &Path, data_dir: &Path) -> Entry {
    let entry = Entry::named(name).unwrap();
    let options = FetchOptions { mirror: Some(mirror.to_path_buf()), ..options() };
    let fetched = entry.get(data_dir, &options, &mut |_| {}).unwrap();
    assert_eq!(fetched[0].origin, Origin::Mirror);
    assert_eq!(entry.find(data_dir).as_ref(), Some(&fetched[0].path));
    // The archive is deleted after it is unpacked. The second call would fail if it fetched a file, since its mirror
    // folder does not exist.
    let left: Vec<_> = std::fs::read_dir(data_dir.join(name)).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let nowhere = FetchOptions { mirror: Some(data_dir.join("nowhere")), ..options };
    assert_eq!(entry.get(data_dir, &nowhere, &mut |_| {}).unwrap()[0].origin, Origin::AlreadyThere);
    *entry
}

fn counts(dataset: &Dataset) -> Vec<usize> {
    let Targets::Classes { labels, names } = dataset.targets() else { panic!("no classes") };
    (0..names.len()).map(|class| labels.iter().filter(|&&label| label as usize == class).count()).collect()
}

#[test]
fn cifar_10_is_loaded_from_the_mirror() {
    let Some(mirror) = mirror("cifar_10_is_loaded_from_the_mirror") else { return };
    let folder = tempfile::tempdir().unwrap();
    get("cifar-10", &mirror, folder.path());
    let augment = Augment { flip: true, crop: 4, ..Augment::default() };
    let data = Data::Cifar10(PixelData { normalize: Normalize::Dataset, augment, ..PixelData::default() });
    let splits = load_from(&data, folder.path()).unwrap();
    assert_eq!((counts(&splits.train), counts(&splits.test)), (vec![5000; 10], vec![1000; 10]));
    assert_eq!(splits.train.feature_shape(), [3, 32, 32]);
    let Targets::Classes { names, .. } = splits.train.targets() else { panic!("no classes") };
    assert_eq!((names[0].as_str(), names[9].as_str()), ("airplane", "truck"));
    // The published statistics of CIFAR-10, up to the errors of JPEG compression.
    let stats = splits.train.pixels().unwrap().channels();
    for (found, known) in stats.mean.iter().zip([0.4914, 0.4822, 0.4465]) {
        assert!((found - known).abs() < 0.003, "{stats:?}");
    }
    for (found, known) in stats.std.iter().zip([0.2470, 0.2435, 0.2616]) {
        assert!((found - known).abs() < 0.01, "{stats:?}");
    }
    let options = LoaderOptions { augment: splits.augment, ..LoaderOptions::default() };
    let mut loader = Loader::new(Arc::new(splits.train), 128, 0, options).unwrap();
    let batch = loader.next_batch().unwrap();
    let mean = batch.features.iter().sum::<f32>() / batch.features.len() as f32;
    assert!(mean.abs() < 0.4 && batch.features.iter().all(|x| x.is_finite()), "{mean}");
}

#[test]
fn isic_2017_is_loaded_from_the_mirror() {
    let Some(mirror) = mirror("isic_2017_is_loaded_from_the_mirror") else { return };
    let folder = tempfile::tempdir().unwrap();
    get("isic-2017", &mirror, folder.path());
    let classes = ["nevus", "melanoma"].map(str::to_owned).to_vec();
    let data = Data::Isic2017(IsicData { classes: Some(classes), size: 32, ..IsicData::default() });
    let splits = load_from(&data, folder.path()).unwrap();
    assert_eq!(counts(&splits.train), [1372, 374]);
    assert_eq!(counts(splits.validation.as_ref().unwrap()), [78, 30]);
    assert_eq!(counts(&splits.test), [393, 117]);
    assert_eq!(splits.train.feature_shape(), [3, 32, 32]);
    // The mean colour of skin has more red than green or blue.
    let mean = splits.train.pixels().unwrap().measure().mean;
    assert!(mean[0] > mean[1] + 0.05 && mean[0] > mean[2] + 0.05, "{mean:?}");

    std::fs::remove_file(folder.path().join("isic-2017/isic-2017/train/ISIC_0000000.jpg")).unwrap();
    let error = load_from(&data, folder.path()).unwrap_err().to_string();
    assert!(error.contains("line 2: ISIC_0000000") && error.contains("labels.csv"), "{error}");
}

#[test]
fn missing_data_set_names_the_command_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    for data in [Data::Cifar10(PixelData::default()), Data::Isic2017(IsicData::default())] {
        let error = load_from(&data, folder.path()).unwrap_err();
        assert!(matches!(error, DataError::NotFetched { .. }), "{error}");
        assert!(error.to_string().contains(&format!("`wgrad data get {}`", data.kind())), "{error}");
    }
}
