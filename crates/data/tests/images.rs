//! CIFAR-10 and ISIC 2017 from the mirror folder: fetched, unpacked, loaded, handed out in batches.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{mirror, options};
use wgrad_data::catalog::Entry;
use wgrad_data::{
    Augment, DataError, DataKind, DataSpec, Dataset, FetchOptions, Loader, LoaderOptions, Normalize, Origin,
    Targets, load_from,
};

/// Fetches a data set of the catalogue from the mirror to `data_dir`.
fn get(name: &str, mirror: &Path, data_dir: &Path) -> Entry {
    let entry = Entry::named(name).unwrap();
    let options = FetchOptions { mirror: Some(mirror.to_path_buf()), ..options() };
    let fetched = entry.get(data_dir, &options, &mut |_| {}).unwrap();
    assert_eq!(fetched[0].origin, Origin::Mirror);
    assert_eq!(entry.find(data_dir).as_ref(), Some(&fetched[0].path));
    // The archive is not kept, and nothing is fetched again: the mirror is gone.
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
fn cifar_10_comes_from_the_mirror_as_images() {
    let Some(mirror) = mirror("cifar_10_comes_from_the_mirror_as_images") else { return };
    let folder = tempfile::tempdir().unwrap();
    get("cifar-10", &mirror, folder.path());
    let spec = DataSpec {
        normalize: Normalize::Dataset,
        augment: Augment { flip: true, crop: 4, ..Augment::default() },
        ..DataKind::Cifar10.into()
    };
    let splits = load_from(&spec, folder.path()).unwrap();
    assert_eq!((counts(&splits.train), counts(&splits.test)), (vec![5000; 10], vec![1000; 10]));
    assert_eq!(splits.train.feature_shape(), [3, 32, 32]);
    let Targets::Classes { names, .. } = splits.train.targets() else { panic!("no classes") };
    assert_eq!((names[0].as_str(), names[9].as_str()), ("airplane", "truck"));
    // The statistics that everybody uses for CIFAR-10, as far as JPEG leaves them alone.
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
fn isic_2017_comes_from_the_mirror_with_its_labels_and_parts() {
    let Some(mirror) = mirror("isic_2017_comes_from_the_mirror_with_its_labels_and_parts") else { return };
    let folder = tempfile::tempdir().unwrap();
    get("isic-2017", &mirror, folder.path());
    let classes = ["nevus", "melanoma"].map(str::to_owned).to_vec();
    let spec = DataSpec { classes: Some(classes), size: Some(32), ..DataKind::Isic2017.into() };
    let splits = load_from(&spec, folder.path()).unwrap();
    assert_eq!(counts(&splits.train), [1372, 374]);
    assert_eq!(counts(splits.validation.as_ref().unwrap()), [78, 30]);
    assert_eq!(counts(&splits.test), [393, 117]);
    assert_eq!(splits.train.feature_shape(), [3, 32, 32]);
    // Skin is more red than blue.
    let mean = splits.train.pixels().unwrap().measure().mean;
    assert!(mean[0] > mean[1] + 0.05 && mean[0] > mean[2] + 0.05, "{mean:?}");

    // Its validation set is given, so that results can be compared.
    let share = DataSpec { validation_fraction: Some(0.1), ..spec.clone() };
    let error = load_from(&share, folder.path()).unwrap_err();
    assert!(matches!(error, DataError::Spec { field: "validation_fraction", .. }), "{error}");
    std::fs::remove_file(folder.path().join("isic-2017/isic-2017/train/ISIC_0000000.jpg")).unwrap();
    let error = load_from(&spec, folder.path()).unwrap_err().to_string();
    assert!(error.contains("line 2: ISIC_0000000") && error.contains("labels.csv"), "{error}");
}

#[test]
fn what_was_not_fetched_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [DataKind::Cifar10, DataKind::Isic2017] {
        let error = load_from(&kind.into(), folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("`wgrad data get {}`", kind.name())), "{error}");
    }
}
