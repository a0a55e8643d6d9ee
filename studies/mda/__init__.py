"""Components and assemblies (Model LEGO) on CIFAR-10: real images, published networks and such as are trained here."""
