"""EM registration, from HTTP to the compiled loops. Imports go downwards only:

routes                                      HTTP
answer_arrays, ragged                       answers as arrays; batches as arrays
batches                                     the problems of a batch, each read on its own
uploads, representations, wire              files of a request; forms of an answer; bodies to problems and back
engine                                      admission and lanes
missing                                     points with NaN, which files may have
worker, register                            jobs, and batches of problems
drawing, iterations                         pictures of a registration; the frames of an animation
plan                                        the engine, the cost and the batch of a problem
schemas, checks                             bodies of requests and answers; the ranges of a problem's options
solving, steps                              one whole problem, from clouds to an answer; single steps with N x M numbers
surfaces                                    scans as surfaces: patches, their mixture, the search for their pose
sampling                                    clouds thinned by voxels, to an even density
starting, motion                            the start of a pose; the deformation of a cloud
climbing, batched                           EM on one problem; on many translations at once
coordinates, ambiguity, cancellation        both clouds in the units of the loops; warnings; early ends
model, outcome, matching                    the parameters and choices of the iteration; its answer; hard matchings
kernel, problem                             the E-step over neighbours, the M-step; a registration's question
kinds                                       the transforms: one record for each
choices                                     the names of the options
jit, loop, slices                           compilation; the contract of the iterations; pauses within an iteration

The loops. Each takes E- and M-steps from a start until the points and σ settle. `loop.Loop` is their contract: init,
step, converged, outcome. f64 and f32 are the precision of the E-step; sums, M-steps and results are float64 everywhere.
The column "driver" says what runs the four parts: `loop.iterate`; the compiled loop itself, whose docstring names them;
or the batch, whose functions are the parts for all of its problems at once. E-steps are compiled in all of them.

loop                       precision  acceleration      driver    why it exists
-------------------------  ---------  ----------------  --------  ------------------------------------------------------
climbing.climb.climb       f64        Anderson, with a  iterate   any transform, prior and normalisation, any size:
                                      safeguard                   accelerates slow convergence
climbing.plain.ascend      f64        none              compiled  the first 12 steps of a small problem, where a call
                                                                  costs more than its arithmetic
solving.literal.recur      f64        none              iterate   the literal prior Π ← R, for any transform: its steps
                                                                  are the answer, so none may be skipped
batched.recursion          f64        none              batch     many small translations in one batch, each with the
                                                                  bits that it has alone
batched.search             f64        none              batch     the start of those: several candidates for each
                                                                  problem of the batch, annealed together
starting.annealing.anneal  f64        Anderson on the   iterate,  from a rough pose to one worth climbing from: thinned,
                                      pose, at a width  twice     robust, scored
starting.descent.descend   f32, then  Aitken, on rigid  compiled  the same for a small problem near the right pose,
                           f64        poses                       without thinning and scores
starting.global_start      f32        none              compiled  three steps from each of 700 rotations, of which only
                                                                  the rank matters
motion.drift.climb         f64        none              iterate   a smooth motion: the M-step solves for hundreds of
                                                                  coefficients

All of them but the batched ones return the same E-step, `kernel.truncated.EStep`, or extend it by sums over the other
cloud.

Where another engine goes. An engine for one problem on a GPU is a package beside `climbing` and `batched`. Its E-steps
implement `climbing.normalization.Normalization`, so that the climb, the M-step and the answers stay as they are; an
engine for batches takes a `batched.padding.Group`, as `batched.recursion` does. `plan` decides which engine computes
a problem, and `engine` which lane queues it.
"""
