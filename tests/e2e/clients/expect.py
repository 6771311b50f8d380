# SPDX-License-Identifier: Apache-2.0
"""What a scenario expects of an answer: plain values, or the matchers that its YAML tags stand for."""
import base64
import dataclasses
import datetime
import time

import yaml


@dataclasses.dataclass
class Matcher:
    """A condition with a name."""
    tag: str
    value: object

    def accepts(self, seen):
        """Whether the value seen fulfils it."""
        return _CONDITIONS[self.tag](seen, self.value)

    def __repr__(self):
        return f"!{self.tag} {self.value!r}" if self.value not in ("", None) else f"!{self.tag}"


@dataclasses.dataclass
class Bytes:
    """Bytes as a payload or a result, written in hexadecimal."""
    hex: str

    def payload(self):
        """As the protocol says it."""
        return {"data": base64.b64encode(bytes.fromhex(self.hex)).decode("ascii")}


@dataclasses.dataclass
class Special:
    """A payload that JSON can't write."""
    name: str

    def payload(self):
        """As the protocol says it."""
        return {"special": self.name}


@dataclasses.dataclass
class Text:
    """A long text as a payload or a result."""
    length: int

    def payload(self):
        """As the protocol says it."""
        return {"json": "x" * self.length}


class Unset:
    """Instead of a value that the runner would fill in: leave it out."""


@dataclasses.dataclass
class Soon:
    """A time, so many seconds from the moment at which the step is taken."""
    seconds: float

    def text(self):
        """RFC 3339."""
        return rfc3339(time.time() + self.seconds)


def rfc3339(unix_s):
    """A time as the protocol writes it."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(seen):
    return isinstance(seen, (int, float)) and not isinstance(seen, bool)


_CONDITIONS = {
    "any": lambda seen, _: seen not in (None, ""),
    "absent": lambda seen, _: seen in (None, "", {}, []),
    "at_least": lambda seen, value: _number(seen) and seen >= value,
    "at_most": lambda seen, value: _number(seen) and seen <= value,
    "between": lambda seen, value: _number(seen) and value[0] <= seen <= value[1],
    "contains": lambda seen, value: isinstance(seen, (str, list)) and value in seen,
    "lacks": lambda seen, value: isinstance(seen, (str, list)) and value not in seen,
    "one_of": lambda seen, value: any(differences(option, seen) == [] for option in value),
    "type": lambda seen, value: isinstance(seen, str) and (seen == value or seen.endswith(("." + value, "$" + value))),
    "length": lambda seen, value: hasattr(seen, "__len__") and len(seen) == value,
}


def field_matches(seen, wanted):
    """A path at fault may start differently in each language, and must end alike."""
    if isinstance(wanted, Matcher):
        return wanted.accepts(seen)
    return isinstance(seen, str) and (seen == wanted or seen.endswith("." + wanted))


def differences(wanted, seen, path=""):
    """Sentences about what is not as wanted; mappings may have more than is wanted."""
    here = path or "the answer"
    if isinstance(wanted, Matcher):
        return [] if wanted.accepts(seen) else [f"{here} should be {wanted}, is {seen!r}"]
    if isinstance(wanted, (Bytes, Text)):
        wanted = wanted.payload()
    if isinstance(wanted, dict):
        if not isinstance(seen, dict):
            return [f"{here} should be a mapping, is {seen!r}"]
        return [text for key, value in wanted.items() for text in differences(value, seen.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(wanted, list):
        if not isinstance(seen, list) or len(seen) != len(wanted):
            return [f"{here} should be {wanted!r}, is {seen!r}"]
        return [text for i, pair in enumerate(zip(wanted, seen)) for text in differences(*pair, f"{path}[{i}]")]
    same = wanted == seen and isinstance(wanted, bool) == isinstance(seen, bool)
    return [] if same else [f"{here} should be {wanted!r}, is {seen!r}"]


class Loader(yaml.SafeLoader):
    """YAML with the tags above."""


def _plain(loader, node):
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    # A scalar under a tag of ours is what it would be without it.
    return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, node.value, (node.style is None, False)), node.value))


for _tag in _CONDITIONS:
    Loader.add_constructor("!" + _tag, lambda loader, node, tag=_tag: Matcher(tag, _plain(loader, node)))
Loader.add_constructor("!bytes", lambda loader, node: Bytes(loader.construct_scalar(node)))
Loader.add_constructor("!special", lambda loader, node: Special(loader.construct_scalar(node)))
Loader.add_constructor("!text", lambda loader, node: Text(int(loader.construct_scalar(node))))
Loader.add_constructor("!unset", lambda loader, node: Unset())
Loader.add_constructor("!in", lambda loader, node: Soon(float(loader.construct_scalar(node))))
# Times stay text, as they travel.
Loader.yaml_implicit_resolvers = {first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
                                  for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
