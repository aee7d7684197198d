"""Functions of activations that are neither linear nor entrywise: products, softmax, normalisation.

They have no constant for all images: what they multiply can be as large as the images make it. They
have one on every bounded set of images.
"""

from reaas_bounds.graph.coupling.coupling import Coupling
from reaas_bounds.graph.coupling.products import MatrixProduct, Product
from reaas_bounds.graph.coupling.reached import Reached
from reaas_bounds.graph.coupling.softmax import Softmax
from reaas_bounds.graph.coupling.standard import Standardisation

__all__ = ["Coupling", "MatrixProduct", "Product", "Reached", "Softmax", "Standardisation"]
