"""What a body must be, and what it and a state may hold.

docs/reliability.md says what the limits bound.
"""

EXPECTED = (
    "expected is XML with the root <response> or <request>, or a JSON array of objects in UTF-8"
)

# Elements are arrays and objects in JSON, and attributes an object's fields.
MAX_DEPTH = 8  # elements within each other; an honest document has 2
MAX_ELEMENTS = 100_000  # in a document, states and all else
# Equals signs, of which there are no fewer than attributes: so many in a document are refused
# if they are also more than ten an element, which the provider's are far from.
MAX_EQUALS_SIGNS = 250_000
MAX_EQUALS_SIGNS_PER_TAG = 10
# Commas in JSON, for the same reason: there are no more values than these and elements.
MAX_COMMAS = 250_000
MAX_COMMAS_PER_ELEMENT = 10
MAX_ELEMENT_ATTRIBUTES = 10_000  # beyond it the document is hostile, not a state invalid
MAX_ATTRIBUTES = 64  # of one state
MAX_NAME_CHARACTERS = 256  # of one attribute's name
MAX_VALUE_CHARACTERS = 4096  # of one attribute's value, or of a state's text
