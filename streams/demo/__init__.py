"""The demo: a storefront, the whole pipeline and a live view in one process.

Read in this order: ``feed`` (what happens in the shop), ``feeder`` (sends it no faster than workers follow), ``readings`` (reads
the outcome back from the topics, as any consumer would), ``view`` (shows it), ``run`` (puts it together).
"""
