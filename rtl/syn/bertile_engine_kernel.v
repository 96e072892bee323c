// Generated from spec/ by `make spec`; do not edit.
// Vivado packages no SystemVerilog top (UG1118, Top-Level HDL Requirements).
module bertile_engine_kernel (
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 ap_clk CLK" *)
    input wire ap_clk,
    (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 ap_rst_n RST" *)
    (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)
    input wire ap_rst_n,

    input wire [511:0] commands_tdata,
    input wire commands_tvalid,
    output wire commands_tready,

    input wire [511:0] tiles_tdata,
    input wire tiles_tvalid,
    output wire tiles_tready,

    input wire [511:0] words_tdata,
    input wire words_tvalid,
    output wire words_tready,

    input wire [511:0] words_from_0_tdata,
    input wire words_from_0_tvalid,
    output wire words_from_0_tready,

    input wire [511:0] words_from_1_tdata,
    input wire words_from_1_tvalid,
    output wire words_from_1_tready,

    output wire [511:0] results_tdata,
    output wire results_tvalid,
    input wire results_tready
);
  bertile_engine kernel (
      .ap_clk(ap_clk),
      .ap_rst_n(ap_rst_n),
      .commands_tdata(commands_tdata),
      .commands_tvalid(commands_tvalid),
      .commands_tready(commands_tready),
      .tiles_tdata(tiles_tdata),
      .tiles_tvalid(tiles_tvalid),
      .tiles_tready(tiles_tready),
      .words_tdata(words_tdata),
      .words_tvalid(words_tvalid),
      .words_tready(words_tready),
      .words_from_0_tdata(words_from_0_tdata),
      .words_from_0_tvalid(words_from_0_tvalid),
      .words_from_0_tready(words_from_0_tready),
      .words_from_1_tdata(words_from_1_tdata),
      .words_from_1_tvalid(words_from_1_tvalid),
      .words_from_1_tready(words_from_1_tready),
      .results_tdata(results_tdata),
      .results_tvalid(results_tvalid),
      .results_tready(results_tready)
  );
endmodule
