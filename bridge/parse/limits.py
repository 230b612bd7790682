"""What a body and a state may hold; docs/reliability.md says what that bounds."""

MAX_DEPTH = 8  # elements within each other; an honest document has 2
MAX_ELEMENTS = 100_000  # in a document, states and all else
# Equals signs, of which there are no fewer than attributes: so many in a document are refused
# if they are also more than ten an element, which the provider's are far from.
MAX_EQUALS_SIGNS = 250_000
MAX_EQUALS_SIGNS_PER_TAG = 10
MAX_ELEMENT_ATTRIBUTES = 10_000  # beyond it the document is hostile, not a state invalid
MAX_ATTRIBUTES = 64  # of one state
MAX_NAME_CHARACTERS = 256  # of one attribute's name
MAX_VALUE_CHARACTERS = 4096  # of one attribute's value, or of a state's text
