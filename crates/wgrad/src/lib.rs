//! Train neural networks on any GPU: facade and command line
