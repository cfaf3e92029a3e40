"""A user's `module:callable`: found, or refused in one sentence that names it."""

import sys

import pytest

from workers.problems.user_code import BadReference, resolve, source_fingerprint


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes `usercode.py` where modules are looked for."""

    def write(text):
        monkeypatch.delitem(sys.modules, "usercode", raising=False)
        (tmp_path / "usercode.py").write_text(text)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two texts within one second
    monkeypatch.syspath_prepend(tmp_path)
    yield write
    sys.modules.pop("usercode", None)


def test_functions_classes_and_attributes_of_them(module):
    """Whatever can be called under the module is found, however deep."""
    module("def f():\n    return 1\nclass C:\n    @staticmethod\n    def g():\n        return 2\n")
    assert resolve("usercode:f")() == 1
    assert resolve("usercode:C.g")() == 2
    assert isinstance(resolve("usercode:C")(), resolve("usercode:C"))


@pytest.mark.parametrize(
    ("text", "reference", "names"),
    [
        ("", "usercode", "is not module:callable, as in mynet:build"),
        ("", ":f", "is not module:callable"),
        ("", "usercode:", "is not module:callable"),
        ("", "nosuchcode:f", "there is no module nosuchcode; run from the folder that holds it"),
        ("", "usercode.inner:f", "there is no module usercode.inner"),
        ("", "usercode:f", "the module usercode has no f"),
        ("f = 3", "usercode:f", "is a int; name a function or a class"),
        ("import nosuchdependency", "usercode:f", "usercode needs nosuchdependency; install it"),
        ("raise OSError('disk')", "usercode:f", "importing usercode fails with OSError: disk"),
        ("def f(:", "usercode:f", "importing usercode fails with SyntaxError"),
    ],
)
def test_what_cannot_be_found(module, text, reference, names):
    """The sentence names the reference as it was written, and what to do."""
    module(text)
    with pytest.raises(BadReference) as refused:
        resolve(reference)
    assert repr(reference) in str(refused.value)
    assert names in str(refused.value)


def test_the_fingerprint_is_of_the_source(module):
    """A changed module has another fingerprint; the same text has the same."""
    seen = []
    for text in ("def f():\n    return 1\n", "def f():\n    return 2\n") * 2:
        module(text)
        seen.append(source_fingerprint("usercode:f"))
    assert seen[:2] == seen[2:]
    assert seen[0] != seen[1]


def test_compiled_code_has_a_fingerprint():
    """A module without source is named by its version."""
    assert len(source_fingerprint("math:sqrt")) == 64
