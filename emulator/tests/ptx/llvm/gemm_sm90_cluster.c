
typedef unsigned u32; typedef unsigned long long u64;
typedef struct { u64 d[16]; } __attribute__((aligned(64))) Map;
#define SH __attribute__((address_space(3)))
extern SH __attribute__((aligned(1024))) char smem[];
#define I static inline __attribute__((always_inline))
#define BM 128
#define BN 128
#define BK 64
#define STAGES 4
#define ABYTES (BM*BK*2)
#define BBYTES (BN*BK*2)
#define SBYTES (ABYTES+BBYTES)
I u32 base(void){ return (u32)(SH char*)smem; }
I void mb_init(u32 a,u32 c){ asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"::"r"(a),"r"(c):"memory"); }
I void mb_wait(u32 a,u32 p){ asm volatile("{\n.reg .pred p;\nL%=:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra L%=;\n}"::"r"(a),"r"(p):"memory"); }
I void mb_expect(u32 a,u32 b){ asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"::"r"(a),"r"(b):"memory"); }
I void mb_arrive(u32 a){ asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];"::"r"(a):"memory"); }
I void tma(u32 dst,const Map*m,int x,int y,u32 bar){ asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2,%3}], [%4];"::"r"(dst),"l"(m),"r"(x),"r"(y),"r"(bar):"memory"); }
I void tma_mc(u32 dst,const Map*m,int x,int y,u32 bar,unsigned short mask){ asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2,%3}], [%4], %5;"::"r"(dst),"l"(m),"r"(x),"r"(y),"r"(bar),"h"(mask):"memory"); }
I void mb_arrive_at(u32 a,u32 cta){ asm volatile("{\n.reg .b32 ra;\nmapa.shared::cluster.u32 ra, %0, %1;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, [ra];\n}"::"r"(a),"r"(cta):"memory"); }
I void cl_sync(void){ asm volatile("barrier.cluster.arrive.release.aligned;":::"memory"); asm volatile("barrier.cluster.wait.acquire.aligned;":::"memory"); }
I u64 desc(u32 a){ return (u64)((a&0x3ffff)>>4) | (1ull<<16) | (64ull<<32) | (1ull<<62); }

I void mma(float*c,u64 a,u64 b,u32 scale){ asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1, 0, 0;\n}"
 : "+f"(c[0]),"+f"(c[1]),"+f"(c[2]),"+f"(c[3]),"+f"(c[4]),"+f"(c[5]),"+f"(c[6]),"+f"(c[7]),"+f"(c[8]),"+f"(c[9]),"+f"(c[10]),"+f"(c[11]),"+f"(c[12]),"+f"(c[13]),"+f"(c[14]),"+f"(c[15]),"+f"(c[16]),"+f"(c[17]),"+f"(c[18]),"+f"(c[19]),"+f"(c[20]),"+f"(c[21]),"+f"(c[22]),"+f"(c[23]),"+f"(c[24]),"+f"(c[25]),"+f"(c[26]),"+f"(c[27]),"+f"(c[28]),"+f"(c[29]),"+f"(c[30]),"+f"(c[31]),"+f"(c[32]),"+f"(c[33]),"+f"(c[34]),"+f"(c[35]),"+f"(c[36]),"+f"(c[37]),"+f"(c[38]),"+f"(c[39]),"+f"(c[40]),"+f"(c[41]),"+f"(c[42]),"+f"(c[43]),"+f"(c[44]),"+f"(c[45]),"+f"(c[46]),"+f"(c[47]),"+f"(c[48]),"+f"(c[49]),"+f"(c[50]),"+f"(c[51]),"+f"(c[52]),"+f"(c[53]),"+f"(c[54]),"+f"(c[55]),"+f"(c[56]),"+f"(c[57]),"+f"(c[58]),"+f"(c[59]),"+f"(c[60]),"+f"(c[61]),"+f"(c[62]),"+f"(c[63]) : "l"(a),"l"(b),"r"(scale)); }

__attribute__((nvptx_kernel)) void gemm(Map ta, Map tb, float __attribute__((address_space(1))) *out, u32 ldo, u32 nk){
  u32 t=__nvvm_read_ptx_sreg_tid_x(), wg=t>>7;
  u32 sm=base(), bars=sm+STAGES*SBYTES;
  u32 full=bars, empty=bars+8*STAGES;
  if(t==0){ for(int i=0;i<STAGES;i++){ mb_init(full+8*i,1); mb_init(empty+8*i,4);} asm volatile("fence.mbarrier_init.release.cluster;":::"memory"); asm volatile("fence.proxy.async;":::"memory"); }
  cl_sync();
  u32 rank=__nvvm_read_ptx_sreg_cluster_ctarank();
  u32 bm=__nvvm_read_ptx_sreg_ctaid_y()*BM, bn=__nvvm_read_ptx_sreg_ctaid_x()*BN;
  if(wg==2){
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if(t==256){
      u32 s=0,ph=1;
      for(u32 k=0;k<nk;k++){
        mb_wait(empty+8*s,ph);
        mb_expect(full+8*s,SBYTES);
        tma_mc(sm+s*SBYTES+rank*(ABYTES/2),&ta,k*BK,bm+64*rank,full+8*s,3);
        tma(sm+s*SBYTES+ABYTES,&tb,k*BK,bn,full+8*s);
        if(++s==STAGES){s=0;ph^=1;}
      }
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    float c[64];
    #pragma clang loop unroll(full)
    for(int i=0;i<64;i++) c[i]=0.f;
    u32 s=0,ph=0;
    for(u32 k=0;k<nk;k++){
      mb_wait(full+8*s,ph);
      u64 da=desc(sm+s*SBYTES+wg*64*128), db=desc(sm+s*SBYTES+ABYTES);
      asm volatile("wgmma.fence.sync.aligned;":::"memory");
      #pragma clang loop unroll(full)
      for(int i=0;i<4;i++) mma(c,da+2*i,db+2*i,1);
      asm volatile("wgmma.commit_group.sync.aligned;":::"memory");
      asm volatile("wgmma.wait_group.sync.aligned 0;":::"memory");
      if((t&127)<2) mb_arrive_at(empty+8*s,t&127);
      if(++s==STAGES){s=0;ph^=1;}
    }
    u32 l=t&31, w=(t>>5)&3;
    u32 row=bm+wg*64+w*16+(l>>2);
    #pragma clang loop unroll(full)
    for(int i=0;i<64;i+=4){
      u32 col=bn+8*(i/4)+2*(l&3);
      typedef float f2 __attribute__((ext_vector_type(2)));
      *(f2 __attribute__((address_space(1)))*)(out+(u64)row*ldo+col)=(f2){c[i],c[i+1]};
      *(f2 __attribute__((address_space(1)))*)(out+(u64)(row+8)*ldo+col)=(f2){c[i+2],c[i+3]};
    }
  }
  cl_sync();
}
