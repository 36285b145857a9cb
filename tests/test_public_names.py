"""What the package offers by name."""

import assocformer_hf


def test_a_star_import_brings_what_dir_lists():
    names = {}
    exec("from assocformer_hf import *", names)
    assert {"AssocFormerForMultiLabel", "Tagger", "train"} <= set(dir(assocformer_hf)) <= names.keys()
